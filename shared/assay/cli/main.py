"""The command `assay`."""

from __future__ import annotations

import typer

from assay.cli import up

app = typer.Typer(
    name="assay",
    help="Reward serving for RLHF.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(context_settings=up.PASS_ON)(up.up)
app.command(context_settings=up.PASS_ON_ALL)(up.serve)


def main() -> None:
    """Entry point of the installed command."""
    app()
