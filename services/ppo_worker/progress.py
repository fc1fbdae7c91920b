"""What a run shows while it goes on: one bar with the figures of the last step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ppo_worker.metrics import StepRecord


@contextmanager
def progress(
    console: Console | None, steps: int, done: int
) -> Iterator[Callable[[StepRecord], None]]:
    """A bar; what it yields takes the record of each step."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=console is None) as bar:
        task = bar.add_task("sampling", total=steps, completed=done)

        def show(record: StepRecord) -> None:
            text = (
                f"score {record.score:.3f} reward {record.reward:.3f} kl {record.kl:.2f} "
                f"length {record.length:.0f}"
            )
            bar.update(task, completed=record.step, description=text)

        yield show
