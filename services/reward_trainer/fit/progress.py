"""What a training shows: its own bars, and nothing of the libraries below it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from transformers.utils import logging


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


def quieten_libraries() -> None:
    """For a process of our own: no bars and advice of transformers among our lines."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
