"""The command `assay`."""

from __future__ import annotations

import typer

from assay.cli import models, score, services, up

app = typer.Typer(
    name="assay",
    help="Reward serving for RLHF.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(context_settings=up.PASS_ON)(up.up)
app.command(context_settings=up.PASS_ON_ALL)(up.serve)
app.command()(score.score)
app.add_typer(models.app, name="models")
app.command(context_settings=up.PASS_ON_ALL)(services.fit)
app.command(context_settings=up.PASS_ON_ALL)(services.train)
app.command(context_settings=up.PASS_ON_ALL)(services.demo)
app.command(context_settings=up.PASS_ON_ALL)(services.strength)
app.command(context_settings=up.PASS_ON_ALL)(services.denoise)
app.command(context_settings=up.PASS_ON_ALL)(services.evaluate)
app.command(context_settings=up.PASS_ON_ALL)(services.probe)
app.command(context_settings=up.PASS_ON_ALL)(services.ppo)
app.command(context_settings=up.PASS_ON_ALL)(services.bench)


def main() -> None:
    """Entry point of the installed command."""
    app()
