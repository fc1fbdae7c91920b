"""The command `assay strength`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_FILE_WIDTH = 160  # characters of a line where no terminal sets them


def command(
    data: Annotated[
        str, typer.Argument(help="File (.jsonl, .json, .parquet; .gz), folder or hub id of pairs.")
    ],
    out: Annotated[Path, typer.Option(help="File to write: .jsonl, .jsonl.gz or .parquet.")],
    model: Annotated[
        str | None,
        typer.Option(help="Ensemble: folder, name or hub id; by default assay-minilm."),
    ] = None,
    cross_fit: Annotated[
        int | None,
        typer.Option(help="Instead of --model: train on all folds but one, score that one."),
    ] = None,
    group: Annotated[
        str, typer.Option(help="What stays in one fold: prompt, root or a column.")
    ] = "root",
    recipe: Annotated[str, typer.Option(help="Recipe to cross-fit with.")] = "default",
    members: Annotated[
        int | None, typer.Option(min=2, help="Members to cross-fit with; by default the recipe's.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder where cross-fitting goes on after an interruption."),
    ] = None,
    released_scores: Annotated[
        bool,
        typer.Option(
            "--released-scores", help="Instead of --model: the scores in the table itself."
        ),
    ] = False,
    standardise: Annotated[
        bool, typer.Option("--standardise", help="Bring members of unlike scales to one.")
    ] = False,
    label: Annotated[
        str | None,
        typer.Option(help="Column of other labels to compare with: 1 = chosen, 0 = rejected."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Column to break the summary down by.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for summary.json and the plots.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a hub id (train), or word in a folder's files.")
    ] = None,
    skip_unusable: Annotated[
        bool, typer.Option("--skip-unusable", help="Leave out rows that are no pair.")
    ] = False,
    device: Annotated[str, typer.Option(help="`auto` = cuda if there is one.")] = "auto",
) -> None:
    """Measure how strongly, and how surely, an ensemble agrees with each label of a dataset."""
    import sys
    import warnings

    import datasets
    from rich.console import Console
    from transformers.utils import logging as transformers_logging

    from assay.errors import AssayError
    from reward_trainer.strength.run import StrengthSettings, strength

    settings = StrengthSettings(
        data=data,
        out=out,
        split=split,
        skip_unusable=skip_unusable,
        model=model,
        cross_fit=cross_fit,
        group=group,
        recipe=recipe,
        members=members,
        work=work,
        released_scores=released_scores,
        standardise=standardise,
        label=label,
        source=source,
        report=report,
        device=device,
    )
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    datasets.disable_progress_bars()
    try:
        strength(settings, Console(stderr=True, width=None if sys.stderr.isatty() else _FILE_WIDTH))
    except AssayError as error:
        typer.echo(f"assay strength: {error.detail}", err=True)
        raise typer.Exit(2) from None
    typer.echo(out)
