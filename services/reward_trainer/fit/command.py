"""The flags of `assay fit`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

Adapter = Literal["lora", "full"]
BatchMargin = Literal["none", "batch_mean", "batch_threshold"]
Contrastive = Literal["none", "simcse", "swav", "simcse-diff", "swav-diff"]
Precision = Literal["no", "bf16", "fp16"]


def command(
    data: Annotated[
        str,
        typer.Option(help="Pairs: a file, a folder or a hub id; or the recipe's own sources."),
    ],
    out: Annotated[Path, typer.Option(help="Store to write NAME/N to.")],
    recipe: Annotated[
        str,
        typer.Option(help="bt, margin, flip, flip_margin, soft_margin, default, or a .toml file."),
    ] = "default",
    split: Annotated[str | None, typer.Option(help="Split of a hub dataset.")] = None,
    group: Annotated[
        str, typer.Option(help="What dev and test are held out by: prompt, root or a column.")
    ] = "root",
    name: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Hub id or folder that the model starts from.")
    ] = None,
    members: Annotated[int | None, typer.Option(help="Models of the ensemble.")] = None,
    adapter: Annotated[
        Adapter | None, typer.Option(help="Train adapters, or all weights of whole models.")
    ] = None,
    trunk_layers: Annotated[
        int | None, typer.Option(help="Lowest layers that stay frozen and run once a text.")
    ] = None,
    contrastive: Annotated[
        Contrastive | None, typer.Option(help="Contrastive loss beside the ranking loss.")
    ] = None,
    batch_margin: Annotated[
        BatchMargin | None, typer.Option(help="Margin from the scores of the batch itself.")
    ] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    step_tokens: Annotated[int | None, typer.Option(help="Tokens of a step.")] = None,
    train_tokens: Annotated[int | None, typer.Option(help="Longest input in training.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest input in use.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    precision: Annotated[Precision | None, typer.Option(help="Mixed precision.")] = None,
    calibration_folds: Annotated[
        int | None,
        typer.Option(help="Calibrate on cross-fitted train pairs; 0 = on the dev part."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto (cuda if there is one), cpu or cuda.")] = "auto",
    checkpoints: Annotated[int, typer.Option(help="Checkpoints of a member on its way.")] = 8,
    workdir: Annotated[
        Path | None, typer.Option(help="For checkpoints and curves; OUT/.fit if not given.")
    ] = None,
    ray_workers: Annotated[int, typer.Option(help="Train in so many Ray Train workers.")] = 0,
) -> None:
    """Train a reward model, measure and save it; prints the folder of the new version.

    The same command goes on where a killed one stopped. For several processes or GPUs, run it
    under torchrun or accelerate: `torchrun --nproc-per-node 2 -m reward_trainer fit ...`.
    """
    from rich.console import Console

    from assay.errors import AssayError
    from reward_trainer.fit.progress import quieten_libraries
    from reward_trainer.fit.run import FitSettings, fit

    console = Console(stderr=True)
    logging.getLogger("reward_trainer").addHandler(_handler(console))
    quieten_libraries()
    changes = {
        "model": name,
        "backbone": backbone,
        "members": members,
        "adapter": adapter,
        "trunk_layers": trunk_layers,
        "contrastive": contrastive,
        "batch_margin": batch_margin,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "step_tokens": step_tokens,
        "train_tokens": train_tokens,
        "max_tokens": max_tokens,
        "seed": seed,
        "precision": precision,
        "calibration_folds": calibration_folds,
    }
    try:
        settings = FitSettings(
            recipe=recipe,
            changes=changes,
            data=data,
            split=split,
            group=group,
            out=out,
            workdir=workdir,
            device=device,
            checkpoints=checkpoints,
            ray_workers=ray_workers,
        )
        folder = fit(settings, console)
    except AssayError as error:
        typer.echo(f"assay fit: {error.detail}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("assay fit: stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    if folder is not None:
        typer.echo(folder)


def _handler(console: Console) -> logging.Handler:
    """Log lines above the bars, with their fields."""
    from rich.logging import RichHandler

    handler = RichHandler(console=console, show_path=False, markup=False)
    handler.setFormatter(_Fields("%(message)s"))
    return handler


class _Fields(logging.Formatter):
    _PLAIN = frozenset(vars(logging.makeLogRecord({})))

    def format(self, record: logging.LogRecord) -> str:
        fields = {k: v for k, v in vars(record).items() if k not in self._PLAIN and k != "message"}
        parts = [
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in fields.items()
        ]
        return " ".join([super().format(record), *parts])
