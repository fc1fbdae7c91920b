"""The command `assay evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reward_trainer.evaluate.report import Report

_FILE_WIDTH = 160  # characters of a line where no terminal sets them


def command(
    data: Annotated[str, typer.Argument(help="Pairs: a file, a folder or a hub id.")],
    model: Annotated[
        str | None,
        typer.Option(help="Folder, name or hub id; with --url the version that must answer."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Score with this running server.")] = None,
    key: Annotated[str | None, typer.Option(help="The server's key (ASSAY_KEY).")] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Second model for a paired comparison; may be a server's URL."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="Column of labels to compare with the others and the models; repeat."),
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="Column to break results down by. [default: subset]")
    ] = None,
    group: Annotated[
        str, typer.Option(help="What intervals resample: root, prompt, or a column.")
    ] = "root",
    split: Annotated[str | None, typer.Option(help="Split of a hub dataset or folder.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many rows, drawn at random.")
    ] = None,
    skip_unusable: Annotated[
        bool, typer.Option("--skip-unusable", help="Leave out rows that are no pair.")
    ] = False,
    device: Annotated[str, typer.Option(help="`auto` = cuda if there is one.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Also write the report as JSON.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables as Markdown.")
    ] = False,
) -> None:
    """Measure how well reward models rank preference pairs.

    RM-Bench and RewardBench 1 and 2 are known by their columns and go by their own rules.
    """
    from assay.errors import AssayError
    from reward_trainer.evaluate.run import EvaluateSettings, evaluate

    settings = EvaluateSettings(
        data=data,
        split=split,
        model=model,
        url=url,
        key=key,
        against=against,
        subset=subset,
        group=group,
        labels=tuple(labels or ()),
        limit=limit,
        skip_unusable=skip_unusable,
        device=device,
    )
    try:
        if out is not None:
            _check_writable(out)
        report = evaluate(settings)
        try:
            if out is not None:
                _write(report, out)
        finally:
            _print(report, markdown)
    except AssayError as error:
        typer.echo(f"assay evaluate: {error.detail}", err=True)
        raise typer.Exit(2) from None


def _check_writable(path: Path) -> None:
    from assay.errors import StartupError

    if path.is_dir() or not path.parent.is_dir():
        what = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise StartupError(f"--out {path}: {what}")


def _write(report: Report, path: Path) -> None:
    from assay.errors import StartupError

    try:
        path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StartupError(f"the report cannot be written to {path}: {error.strerror}") from error


def _print(report: Report, as_markdown: bool) -> None:
    from rich.console import Console

    from reward_trainer.evaluate.display import heading, tables
    from reward_trainer.evaluate.tables import markdown, print_table

    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    if not as_markdown:
        console.print(heading(report), markup=False, highlight=False)
    for table in tables(report):
        if as_markdown:
            note = f"\n\n{table.note}" if table.note else ""
            typer.echo(f"## {table.title}\n\n{markdown(table)}{note}\n")
        else:
            print_table(table, console)
