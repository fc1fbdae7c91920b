"""The bars of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn


@contextmanager
def bars(progress: bool | Progress | Console) -> Iterator[Progress]:
    """Bars on stderr or on a console, those of the caller, or none."""
    if isinstance(progress, Progress):
        yield progress
        return
    console = progress if isinstance(progress, Console) else Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=progress is False) as made:
        yield made
