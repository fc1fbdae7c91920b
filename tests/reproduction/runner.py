"""Runs the cells of a grid that are missing, then writes the report; one command for each grid."""

import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypeVar

import datasets
import torch
import typer
from rich.console import Console

from assay.errors import AssayError, DataError
from reproduction.cells import Cell, Cells, ResultT
from reward_trainer.fit.progress import quieten_libraries


class Named(Protocol):
    """A cell's specification."""

    @property
    def name(self) -> str:
        """Of its file."""
        ...


SpecT = TypeVar("SpecT", bound=Named)
ScaleT = TypeVar("ScaleT")


class Runner(ABC, Generic[SpecT, ResultT]):
    """Runs cells one after another.

    Args:
        specs: all cells.
        cells: where results are kept.
        console: gets a line per cell.
    """

    def __init__(self, specs: Sequence[SpecT], cells: Cells[ResultT], console: Console) -> None:
        self._specs, self._cells, self._console = specs, cells, console

    @abstractmethod
    def digests(self, spec: SpecT) -> tuple[str, str]:
        """Of configuration and data: a kept cell that has the same ones is not run again."""

    @abstractmethod
    def work_of(self, spec: SpecT) -> Callable[[], ResultT]:
        """What a cell does; what is done before it is returned is not on the cell's time."""

    @abstractmethod
    def close(self) -> None:
        """After the last cell, or the one that failed."""

    def run(self, only: Sequence[str] = ()) -> None:
        """Run the cells that are missing or were run with another configuration.

        Args:
            only: shell patterns of their names; none = all.

        Raises:
            DataError: no cell has such a name, or a cell cannot be run or written.
        """
        wanted = [s for s in self._specs if not only or any(fnmatch(s.name, p) for p in only)]
        if not wanted:
            raise DataError(f"no cell is called {' or '.join(only)}; {self._specs[0].name} is one")
        try:
            for number, spec in enumerate(wanted, start=1):
                minutes = self.cell(spec).minutes
                spent = f"{minutes:.1f} min" if minutes >= 0.1 else "under 0.1 min"
                self._console.print(f"{number} of {len(wanted)}: {spec.name}, {spent}")
        finally:
            self.close()

    def cell(self, spec: SpecT) -> Cell[ResultT]:
        """A cell that is kept, or that is run for it."""
        config, data = self.digests(spec)
        kept = self._cells.read(spec.name)
        if kept is not None and (kept.config, kept.data) == (config, data):
            return kept
        return self._cells.run(spec.name, config, data, self.work_of(spec))


@dataclass(frozen=True)
class Place:
    """Where the cells of a scale are run.

    Attributes:
        data: folder of data sets.
        cells: folder for results.
        work: folder for what a cell leaves if it is stopped.
        device: `auto`, `cpu` or `cuda`.
        console: gets a line per cell.
    """

    data: Path
    cells: Path
    work: Path
    device: str
    console: Console


def how_to_run(study: str, scale: str, part: str) -> str:
    """The report's last section.

    Args:
        study: name of its package and folder.
        scale: whose numbers are shown.
        part: what the names of cells begin with, and processes may share the work by.
    """
    return f"""
## Run it

```
export PYTHONPATH=tests
.venv/bin/python -m reproduction.{study} --scale {scale} --out tests/reproduction/{study}
```

A stopped run goes on where it was. `--only "{part}0-*"` runs some cells; two processes share the
work if their patterns name different {part}s. `--report-only` makes this file anew.
"""


def command(
    about: str,
    scales: Mapping[str, ScaleT],
    runner: Callable[[ScaleT, Place], Runner[Any, Any]],
    report: Callable[[Path, ScaleT], None],
    *,
    threads: int = 1,
) -> None:
    """Do what the command line says.

    Args:
        about: what the command does, in a sentence.
        scales: by name.
        runner: reads the data of a scale, and runs its cells.
        report: writes README.md and plots into a folder, from the cells that are in `cells` there.
        threads: of torch, unless the command line says otherwise; a runner reads what it came to
            from torch.
    """

    def main(
        scale: Annotated[str, typer.Option(help=" | ".join(scales))],
        out: Annotated[Path, typer.Option(help="Folder for cells, README.md and plots.")],
        data: Annotated[Path, typer.Option(envvar="ASSAY_DATA", help="Folder of data.")] = Path(
            "../shared/data"
        ),
        only: Annotated[list[str] | None, typer.Option(help="Cells by name, * for any.")] = None,
        report_only: Annotated[bool, typer.Option(help="Run nothing.")] = False,
        device: Annotated[str, typer.Option(help="`auto` = cuda if there is one.")] = "auto",
        threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = threads,
    ) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # runs `close`
        out = out.absolute()
        quieten_libraries()
        datasets.disable_progress_bars()
        torch.set_num_threads(threads)
        console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)
        place = Place(data, out / "cells" / scale, out / "work" / scale, device, console)
        try:
            if scale not in scales:
                raise DataError(f"no scale {scale!r}: there is {', '.join(scales)}")
            if not report_only:
                runner(scales[scale], place).run(only or [])
            report(out, scales[scale])
        except AssayError as error:
            typer.echo(error.detail, err=True)
            raise typer.Exit(2) from None
        typer.echo(out / "README.md")

    main.__doc__ = f"{about} Cells that were run are not run again."
    typer.run(main)
