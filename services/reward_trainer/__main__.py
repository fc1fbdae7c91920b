"""`python -m reward_trainer`: training and evaluating reward models with preference pairs."""

from __future__ import annotations

import typer

from reward_trainer.denoise.command import command as denoise
from reward_trainer.evaluate.command import command as evaluate
from reward_trainer.fit.command import command as fit
from reward_trainer.gate.command import app as probe
from reward_trainer.online.command import command as train
from reward_trainer.online.demo import command as demo
from reward_trainer.strength.command import command as strength

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """Train and evaluate reward models."""


app.command("fit")(fit)
app.command("strength")(strength)
app.command("denoise")(denoise)
app.command("evaluate")(evaluate)
app.command(
    "train",
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)(train)
app.command("demo")(demo)
app.add_typer(probe, name="probe")


if __name__ == "__main__":
    app(prog_name="assay")
