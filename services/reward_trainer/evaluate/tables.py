"""Tables of results, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from reward_trainer.evaluate.accuracy import Accuracy
from reward_trainer.evaluate.statistics import Estimate

_SHOWN_ROWS = 60
Cells = dict[str, Callable[[Any], str]]


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns; the first column holds names, the others numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""


def make_table(title: str, columns: Cells, records: Sequence[object], note: str = "") -> Table:
    """A table whose cells are functions of a record."""
    rows = [[cell(record) for cell in columns.values()] for record in records]
    return Table(title, list(columns), rows, note)


def accuracy_table(title: str, rows: Sequence[Accuracy], first: str = "subset") -> Table:
    """Accuracy of each subset beside the length rule's; `first` heads the subsets."""
    columns: Cells = {
        first: lambda row: row.subset,
        "pairs": lambda row: f"{row.pairs:,}",
        "roots": lambda row: f"{row.roots:,}",
        "accuracy": lambda row: show(row.accuracy),
        "longer or shorter": lambda row: f"{row.prefers} {show(row.length_rule)}",
        "difference": lambda row: show(row.gain, sign="+"),
        "accuracy where the longer loses": lambda row: show(row.longer_loses),
    }
    return make_table(title, columns, rows)


def markdown_table(rows: Sequence[Accuracy], first: str = "subset") -> str:
    """Accuracy of each subset as a Markdown table."""
    return markdown(accuracy_table("", rows, first))


def markdown(table: Table) -> str:
    """A table as Markdown, without title and note."""
    header = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)]]
    body = [[_escaped(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*header, *body])


def print_table(table: Table, console: Console) -> None:
    """Draw a table; long ones are cut and say so."""
    drawn = RichTable(title=Text(table.title), title_justify="left", box=SIMPLE_HEAD)
    for index, column in enumerate(table.columns):
        drawn.add_column(Text(column), justify="right" if index else "left", overflow="fold")
    for row in table.rows[:_SHOWN_ROWS]:
        drawn.add_row(*(Text(cell) for cell in row))
    console.print(drawn)
    if len(table.rows) > _SHOWN_ROWS:
        left = len(table.rows) - _SHOWN_ROWS
        console.print(f"... and {left:,} more rows; the JSON file has all", markup=False)
    if table.note:
        console.print(table.note, markup=False, highlight=False)
    console.print()


def show(estimate: Estimate | None, sign: str = "") -> str:
    """A share with its interval, three digits: `.790 [.744, .833]`."""
    if estimate is None:
        return "no such pair"
    value = share(estimate.value, sign)
    if estimate.low is None or estimate.high is None:
        return f"{value} [one root]"
    return f"{value} [{share(estimate.low, sign)}, {share(estimate.high, sign)}]"


def share(number: float, sign: str = "") -> str:
    """A number with three digits and no zero in front of the point."""
    return f"{number:{sign}.3f}".replace("0.", ".", 1) if abs(number) < 1 else f"{number:{sign}.3f}"


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())
