"""`python -m reproduction.ppo`: train policies against proxies in each mode of reward."""

from __future__ import annotations

import signal
import sys

from reproduction.cells import Cells
from reproduction.ppo.grid import Grid
from reproduction.ppo.report import write_report
from reproduction.ppo.results import OptimisedCell
from reproduction.ppo.scales import SCALES, Scale
from reproduction.runner import Place, command


def grid(scale: Scale, place: Place) -> Grid:
    cells = Cells(place.cells, OptimisedCell)
    return Grid(scale, cells, place.work.absolute(), place.console)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stops the server
    command("Train policies against proxies in each mode of reward.", SCALES, grid, write_report)
