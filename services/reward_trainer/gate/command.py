"""The command `assay probe`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from reward_trainer.gate.probe import Probe

app = typer.Typer(no_args_is_help=True)

Model = Annotated[
    str | None, typer.Option("--model", help="Name of the model that it judges (ASSAY_MODEL).")
]
Store = Annotated[
    str | None, typer.Option("--store", help="Folder or URL of all models (ASSAY_STORE).")
]
_SHOWN = 60  # characters of a text in the list


@app.callback()
def _commands() -> None:
    """Label recent samples, by which the gate sees whether a candidate follows the policy."""


@app.command("add")
def add(
    data: Annotated[str, typer.Argument(help="Labelled pairs: a file, a folder or a hub id.")],
    model: Model = None,
    store: Store = None,
    split: Annotated[str | None, typer.Option(help="Split of a hub dataset or folder.")] = None,
) -> None:
    """Add preference pairs of recent samples, by which the gate judges.

    A trainer never trains on what shares a conversation with them. Those that a running one trains
    on already are left out until it starts anew, and the gate's report says how many.
    """
    from reward_trainer.preferences.reading import read_preferences

    with _opened("add", model, store) as probe:
        added = probe.add(read_preferences(data, split=split))
        typer.echo(f"{added:,} pairs added, {len(probe.rows()):,} in the probe")


@app.command("list")
def show(model: Model = None, store: Store = None) -> None:
    """Show the labelled pairs."""
    with _opened("list", model, store) as probe:
        _print(probe.rows())


@app.command("clear")
def clear(model: Model = None, store: Store = None) -> None:
    """Forget all labelled pairs."""
    with _opened("clear", model, store) as probe:
        typer.echo(f"{probe.clear():,} pairs removed")


@contextmanager
def _opened(command: str, model: str | None, store: str | None) -> Iterator[Probe]:
    import datasets

    from assay.errors import AssayError
    from assay.schemas.refs import parse_pin
    from reward_trainer.gate.probe import Probe
    from reward_trainer.gate.settings import ProbeSettings

    given = {"model": model, "store": store}
    datasets.disable_progress_bars()
    try:
        settings = ProbeSettings(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
        yield Probe(settings.open_store(), parse_pin(settings.model).name)
    except AssayError as error:
        typer.echo(f"assay probe {command}: {error.detail}", err=True)
        raise typer.Exit(2) from None


def _print(rows: Sequence[dict[str, Any]]) -> None:
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{len(rows):,} labelled pairs")
    names = ("policy", "prompt", "chosen", "rejected")
    for name in ("added", *names):
        table.add_column(name)
    for row in rows:
        added = row.get("added")
        day = f"{datetime.fromtimestamp(added, UTC):%Y-%m-%d}" if isinstance(added, int) else ""
        table.add_row(day, *(Text(_cut(row.get(name))) for name in names))
    Console().print(table)


def _cut(value: Any) -> str:
    if isinstance(value, list):
        value = " / ".join(str(message.get("content") or "") for message in value)
    text = " ".join(str(value or "").split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
