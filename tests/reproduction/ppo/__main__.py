"""`python -m reproduction.ppo`: run the cells that are missing, then write the report."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import datasets
import torch
import typer
from rich.console import Console

from assay.errors import AssayError, DataError
from reproduction.cells import Cells
from reproduction.ppo.grid import Grid
from reproduction.ppo.report import write_report
from reproduction.ppo.scales import SCALES
from reward_trainer.fit.progress import quieten_libraries


def main(
    scale: Annotated[str, typer.Option(help=" | ".join(SCALES))],
    out: Annotated[Path, typer.Option(help="Folder for cells, pictures and README.md.")],
    only: Annotated[list[str] | None, typer.Option(help="Cells by name, * for any.")] = None,
    report_only: Annotated[bool, typer.Option(help="Run nothing.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
) -> None:
    """Train policies against proxies in each mode of reward; kept cells are not run again."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stops the server
    quieten_libraries()
    datasets.disable_progress_bars()
    torch.set_num_threads(threads)
    try:
        _run(scale, out.absolute(), only or [], report_only, threads)
    except AssayError as error:
        typer.echo(f"ppo: {error.detail}", err=True)
        raise typer.Exit(2) from None
    typer.echo(out / "README.md")


def _run(name: str, out: Path, only: list[str], report_only: bool, threads: int) -> None:
    if name not in SCALES:
        raise DataError(f"no scale {name!r}: there is {', '.join(SCALES)}")
    scale, cells = SCALES[name], Cells(out / "cells" / name)
    if not report_only:
        console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)
        Grid(scale, cells, out / "work" / name, threads, console).run(only)
    write_report(out, scale)


if __name__ == "__main__":
    typer.run(main)
