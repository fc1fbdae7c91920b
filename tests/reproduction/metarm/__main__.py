"""`python -m reproduction.metarm`: run the cells that are missing, then write the report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import datasets
import torch
import typer
from rich.console import Console

from assay.errors import AssayError, DataError
from reproduction.cells import Cells
from reproduction.metarm.data import read_data
from reproduction.metarm.grid import Grid
from reproduction.metarm.report import write_report
from reproduction.metarm.scales import SCALES
from reward_trainer.fit.progress import quieten_libraries


def main(
    scale: Annotated[str, typer.Option(help=" | ".join(SCALES))],
    out: Annotated[Path, typer.Option(help="Folder for cells and README.md.")],
    data: Annotated[Path, typer.Option(envvar="ASSAY_DATA", help="Folder of data.")] = Path(
        "../shared/data"
    ),
    only: Annotated[list[str] | None, typer.Option(help="Cells by name, * for any.")] = None,
    report_only: Annotated[bool, typer.Option(help="Run nothing.")] = False,
    device: Annotated[str, typer.Option(help="`auto` = cuda if there is one.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
) -> None:
    """Go on from trained models by each update rule; cells that were run are not run again."""
    quieten_libraries()
    datasets.disable_progress_bars()
    torch.set_num_threads(threads)
    try:
        _run(scale, out, data, only or [], report_only, device)
    except AssayError as error:
        typer.echo(f"metarm: {error.detail}", err=True)
        raise typer.Exit(2) from None
    typer.echo(out / "README.md")


def _run(name: str, out: Path, data: Path, only: list[str], report_only: bool, device: str) -> None:
    if name not in SCALES:
        raise DataError(f"no scale {name!r}: there is {', '.join(SCALES)}")
    scale, cells = SCALES[name], Cells(out / "cells" / name)
    if not report_only:
        console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)
        Grid(scale, read_data(data), cells, out / "work" / name, device, console).run(only)
    write_report(out, scale)


if __name__ == "__main__":
    typer.run(main)
