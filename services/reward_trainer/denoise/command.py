"""The command `assay denoise`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_FILE_WIDTH = 160  # characters of a line where no terminal sets them


def command(
    data: Annotated[str, typer.Argument(help="Pairs that `assay strength` has measured.")],
    out: Annotated[Path, typer.Option(help="File to write: .jsonl, .jsonl.gz or .parquet.")],
    action: Annotated[
        str | None,
        typer.Option(help="flip, smooth, drop, margin, or one of the first three with +margin."),
    ] = None,
    by: Annotated[
        str, typer.Option(help="What makes a pair suspect: quantile, sign or posterior.")
    ] = "quantile",
    below: Annotated[
        float | None,
        typer.Option(help="Limit: quantile .1 (to smooth, .4), posterior .5, if not given."),
    ] = None,
    smoothing: Annotated[float, typer.Option(help="alpha: labels become 1 - alpha.")] = 0.2,
    temperature: Annotated[float, typer.Option(help="T of the posterior.")] = 1.0,
    expand: Annotated[
        bool, typer.Option("--expand", help="Smoothing for any trainer: pairs in both orders.")
    ] = False,
    smoothing_column: Annotated[
        bool, typer.Option("--smoothing-column", help="Smoothing for `assay fit`: a column.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Write the table as it was before any action.")
    ] = False,
    split: Annotated[
        str | None, typer.Option(help="Split of a hub id (train), or word in a folder's files.")
    ] = None,
) -> None:
    """Flip, smooth, drop or give margins to the training pairs that an ensemble does not believe.

    Not for pairs that a model is measured on: labels that the ensemble has set favour it.
    """
    import sys

    import datasets
    from pydantic import ValidationError
    from rich.console import Console

    from assay.errors import AssayError, DataError
    from assay.schemas.validation import invalid_input
    from reward_trainer.denoise.policy import Policy
    from reward_trainer.denoise.run import DenoiseSettings, run

    datasets.disable_progress_bars()
    try:
        if undo == (action is not None):
            raise DataError("name an --action, or --undo")
        policy = None
        if not undo:
            policy = Policy.model_validate(
                {
                    "action": action,
                    "by": by,
                    "below": below,
                    "smoothing": smoothing,
                    "temperature": temperature,
                }
            )
        settings = DenoiseSettings(
            data=data,
            out=out,
            policy=policy,
            split=split,
            expand=expand,
            smoothing_column=smoothing_column,
        )
        run(settings, Console(stderr=True, width=None if sys.stderr.isatty() else _FILE_WIDTH))
    except ValidationError as error:
        typer.echo(f"assay denoise: {invalid_input(error.errors()).detail}", err=True)
        raise typer.Exit(2) from None
    except AssayError as error:
        typer.echo(f"assay denoise: {error.detail}", err=True)
        raise typer.Exit(2) from None
    typer.echo(out)
