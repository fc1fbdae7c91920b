"""`python -m reproduction.ppo`: train policies against proxies in each mode of reward."""

from __future__ import annotations

from reproduction.cells import Cells
from reproduction.ppo.grid import Grid
from reproduction.ppo.report import write_report
from reproduction.ppo.results import OptimisedCell
from reproduction.ppo.scales import SCALES, Scale
from reproduction.runner import Place, command


def grid(scale: Scale, place: Place) -> Grid:
    cells = Cells(place.cells, OptimisedCell)
    return Grid(scale, cells, place.work, place.console)


if __name__ == "__main__":
    command("Train policies against proxies in each mode of reward.", SCALES, grid, write_report)
