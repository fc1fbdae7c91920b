"""`assay score`: score completions from the shell."""

from __future__ import annotations

from typing import Annotated

import typer

from assay.cli.refusals import refusing


def score(
    prompt: Annotated[str, typer.Argument(help="The prompt.")],
    completions: Annotated[list[str], typer.Argument(help="One or more completions.")],
    url: Annotated[str | None, typer.Option(help="Server (ASSAY_URL).")] = None,
    key: Annotated[str | None, typer.Option(help="Key (ASSAY_KEY).")] = None,
    model: Annotated[str | None, typer.Option(help="Version that must answer: name@7.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the reply as JSON.")] = False,
) -> None:
    """Score completions of a prompt with a running server."""
    from assay.client import Client

    with refusing("assay score"), Client(url, key=key, model=model, retries=1) as client:
        reply = client.score_groups([{"prompt": prompt, "completions": completions}])
    if json:
        typer.echo(reply.model_dump_json(exclude_unset=True))
        return
    _print_table(completions, reply.model, reply.results[0].scores, reply.results[0].std)


def _print_table(
    completions: list[str],
    model: str,
    scores: list[float | None],
    std: list[float | None] | None,
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=model)
    for column in ("score", "std", "completion"):
        table.add_column(column, justify="left" if column == "completion" else "right")
    for index, completion in enumerate(completions):
        table.add_row(
            _number(scores[index]),
            _number(std[index]) if std else "",
            Text(completion, overflow="ellipsis", no_wrap=True),
        )
    Console().print(table)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
