"""`python -m ppo_worker.demo.pretrain`: makes the default policy, and prints its figures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ppo_worker.demo.task import POLICY

if TYPE_CHECKING:
    from ppo_worker.demo.training import Step

_EVERY_S = 15.0


def command(
    data: Annotated[Path, typer.Option(envvar="ASSAY_DATA", help="Folder of the texts.")] = Path(
        "../shared/data"
    ),
    out: Annotated[Path, typer.Option(help="Folder for the policy.")] = POLICY,
    work: Annotated[Path, typer.Option(help="Folder for the checkpoint.")] = Path("build/policy"),
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Make the default policy; the same command goes on where a killed one stopped."""
    import torch

    from assay.errors import AssayError
    from ppo_worker.demo.making import pretrain
    from ppo_worker.demo.training import Recipe

    torch.set_num_threads(threads)
    try:
        manifest = pretrain(data, out, work, Recipe(), _Printed())
    except AssayError as error:
        typer.echo(f"pretrain: {error.detail}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{out}: {manifest.parameters:,} parameters, {manifest.tokens:,} tokens seen")
    for name, row in manifest.figures.items():
        typer.echo(
            f"{name:37} texts {row.texts:4}  tokens {row.tokens:5.1f}  perplexity "
            f"{row.perplexity:6.1f}  4-gram repetition {row.repetition:.4f}  "
            f"8-grams of the training {row.copied:.4f}"
        )


class _Printed:
    """A line now and then."""

    def __init__(self) -> None:
        self._last = -_EVERY_S

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._last > _EVERY_S or step.number == step.of:
            self._last = now
            typer.echo(
                f"step {step.number}/{step.of}  loss {step.loss:.3f}  "
                f"{step.tokens_per_s:,.0f} tokens/s"
            )


if __name__ == "__main__":
    typer.run(command)
