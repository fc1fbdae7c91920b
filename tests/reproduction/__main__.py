"""`python -m reproduction`: flip labels, find them, train despite them."""

from __future__ import annotations

from reproduction.cells import Cells
from reproduction.grid import Grid
from reproduction.noise import read_pairs
from reproduction.report import write_report
from reproduction.results import NoiseCell
from reproduction.runner import Place, command
from reproduction.scales import SCALES, Scale


def grid(scale: Scale, place: Place) -> Grid:
    cells = Cells(place.cells, NoiseCell)
    table = read_pairs(place.data, scale)
    return Grid(scale, table, cells, place.work, place.device, place.console)


if __name__ == "__main__":
    command("Flip labels, find them, train despite them.", SCALES, grid, write_report, threads=2)
