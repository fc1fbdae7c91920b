"""`python -m reward_trainer`: training and evaluating reward models with preference pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reward_trainer.denoise.command import command as denoise
from reward_trainer.evaluate.command import command as evaluate
from reward_trainer.strength.command import command as strength

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """Train and evaluate reward models."""


@app.command()
def fit(
    data: Annotated[Path, typer.Option(help="Folder with the recipe's files of pairs.")],
    out: Annotated[Path, typer.Option(help="Store to write NAME/N to.")],
    recipe: Annotated[str, typer.Option(help="A recipe's name, or a .toml file.")] = "default",
    device: Annotated[str, typer.Option(help="`auto` = cuda if there is one.")] = "auto",
) -> None:
    """Train, measure, calibrate and save an ensemble; prints the folder of the new version."""
    from assay.errors import AssayError
    from reward_trainer.fit.run import FitSettings
    from reward_trainer.fit.run import fit as run

    try:
        folder = run(FitSettings(recipe=recipe, data=data, out=out, device=device))
    except AssayError as error:
        typer.echo(f"assay fit: {error.detail}", err=True)
        raise typer.Exit(2) from None
    typer.echo(folder)


app.command("strength")(strength)
app.command("denoise")(denoise)
app.command("evaluate")(evaluate)


if __name__ == "__main__":
    app(prog_name="assay")
