"""`python -m reproduction.metarm`: go on from trained models by each update rule."""

from __future__ import annotations

from reproduction.cells import Cells
from reproduction.metarm.data import read_data
from reproduction.metarm.grid import Grid
from reproduction.metarm.report import write_report
from reproduction.metarm.results import AdaptedCell
from reproduction.metarm.scales import SCALES, Scale
from reproduction.runner import Place, command


def grid(scale: Scale, place: Place) -> Grid:
    cells = Cells(place.cells, AdaptedCell)
    return Grid(scale, read_data(place.data), cells, place.work, place.device, place.console)


if __name__ == "__main__":
    command("Go on from trained models by each update rule.", SCALES, grid, write_report)
