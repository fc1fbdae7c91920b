"""How a command ends that cannot do what it was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

from assay.errors import AssayError, ServerUnreachableError


@contextlib.contextmanager
def refusing(command: str) -> Iterator[None]:
    """One line on stderr and exit code 1 for what goes wrong.

    Args:
        command: its name, for the line.
    """
    try:
        yield
    except AssayError as error:
        missing = isinstance(error, ServerUnreachableError)
        remedy = "; start one with `assay up`, or name another with --url" if missing else ""
        typer.echo(f"{command}: {error.detail}{remedy}", err=True)
        raise typer.Exit(1) from None
