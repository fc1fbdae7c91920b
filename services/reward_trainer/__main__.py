"""`python -m reward_trainer`: training reward models from files of preference pairs."""

from __future__ import annotations

import typer

from reward_trainer.fit.command import command as fit

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """Train reward models."""


app.command("fit")(fit)


if __name__ == "__main__":
    app(prog_name="assay")
