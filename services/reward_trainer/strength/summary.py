"""A dataset's strength in numbers: JSON, and tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import datasets
import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table
from rich.text import Text

from assay.errors import DataError
from assay.rewards.strength import posterior
from reward_trainer.evaluate.agreement import read_labels
from reward_trainer.evaluate.statistics import Estimate, Roots
from reward_trainer.preferences.roots import groups_of
from reward_trainer.strength.differences import Array, Measured

_QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_DECILES = 10


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Spread(_Record):
    """Strength of some pairs."""

    pairs: int
    negative: float = Field(description="Share with mean < 0: the ensemble disagrees.")
    mean: float = Field(description="Mean over pairs of the ensemble mean.")
    std: float = Field(description="Mean over pairs of the population std over members.")


class Decile(_Record):
    """Labelled pairs of like strength."""

    pairs: int
    mean: float = Field(description="Mean over pairs of the ensemble mean.")
    agreement: Estimate = Field(
        description="Share whose other label sides with `chosen`, interval by roots."
    )
    expected: float = Field(description="Mean posterior: what a calibrated ensemble would reach.")


class Agreement(_Record):
    """The ensemble against labels of another origin."""

    column: str
    pairs: int = Field(description="Pairs that have such a label.")
    agreement: float = Field(description="Share whose label sides with `chosen`.")
    auc: float = Field(
        description="Probability that a pair whose label sides with `chosen` has a higher mean "
        "than one whose label does not; .5 = no better than chance."
    )
    deciles: list[Decile] = Field(description="Weakest first.")


class Summary(_Record):
    """What `assay strength` reports."""

    model: str
    members: int
    standardised: bool = Field(description="Each member over its root mean square.")
    truncated: int = Field(description="Pairs of which the model did not read the whole prompt.")
    all: Spread
    quantiles: dict[str, float] = Field(description="Of the ensemble mean, by share.")
    votes: list[int] = Field(description="Pairs by votes for `chosen`, from 0 to all members.")
    sources: dict[str, Spread] = Field(description="By the values of a column.")
    agreement: Agreement | None


def summarise(
    table: datasets.Dataset,
    measured: Measured,
    *,
    standardised: bool = False,
    label: str | None = None,
    source: str | None = None,
) -> Summary:
    """The numbers of a measured table.

    Args:
        table: preference pairs.
        measured: their differences.
        standardised: whether the differences were brought to one scale.
        label: column with labels of another origin: 1 = `chosen` is better, 0 = `rejected` is.
        source: column by whose values the spread is broken down.

    Raises:
        DataError: a column is missing, or `label` holds one class only or something else.
    """
    differences = measured.differences
    mean, members = differences.mean(axis=1), differences.shape[1]
    votes = np.bincount((differences > 0).sum(axis=1), minlength=members + 1)
    values = np.quantile(mean, _QUANTILES)
    return Summary(
        model=measured.model,
        members=members,
        standardised=standardised,
        truncated=measured.truncated,
        all=_spread(differences),
        quantiles={f"{share:g}": float(v) for share, v in zip(_QUANTILES, values, strict=True)},
        votes=votes.tolist(),
        sources={} if source is None else _by_source(groups_of(table, source), differences),
        agreement=None if label is None else agreement(table, label, differences),
    )


def _spread(differences: Array) -> Spread:
    mean = differences.mean(axis=1)
    return Spread(
        pairs=len(mean),
        negative=float((mean < 0).mean()),
        mean=float(mean.mean()),
        std=float(differences.std(axis=1).mean()),
    )


def _by_source(sources: Sequence[str], differences: Array) -> dict[str, Spread]:
    names, place = np.unique(sources, return_inverse=True)
    spreads = {str(name): _spread(differences[place == i]) for i, name in enumerate(names)}
    return dict(sorted(spreads.items(), key=lambda item: -item[1].negative))


def agreement(table: datasets.Dataset, column: str, differences: Array) -> Agreement:
    """The ensemble against a column of labels; rows without a label do not count.

    Args:
        table: preference pairs.
        column: 1, true or "chosen" = `chosen` is better; 0, false or "rejected" = `rejected` is;
            -1 or null = no label.
        differences: shape [pairs, members].

    Raises:
        DataError: no such column, or it holds one class only or something else.
    """
    labels = labels_of(table, column)
    given = ~np.isnan(labels)
    roots = Roots.of(np.array(groups_of(table, "root"))[given].tolist())
    labels, differences = labels[given], differences[given]
    mean, expected = differences.mean(axis=1), posterior(differences, 1.0)
    order = np.argsort(mean, kind="stable")
    return Agreement(
        column=column,
        pairs=len(labels),
        agreement=float(labels.mean()),
        auc=auc(mean, labels),
        deciles=[
            Decile(
                pairs=len(rows),
                mean=float(mean[rows].mean()),
                agreement=roots.share(labels, np.isin(np.arange(len(labels)), rows)),
                expected=float(expected[rows].mean()),
            )
            for rows in np.array_split(order, min(_DECILES, len(order)))
        ],
    )


def labels_of(table: datasets.Dataset, column: str) -> Array:
    """A column of labels as numbers: 1, 0, or NaN for none, shape [pairs].

    Raises:
        DataError: no such column, or it holds one class only or something else.
    """
    if column not in table.column_names:
        found = ", ".join(table.column_names)
        raise DataError(f"no column {column!r} with labels: there are {found}")
    return read_labels(column, table[column])


def auc(values: Array, labels: Array) -> float:
    """Area under the ROC curve: P(value of a 1 > value of a 0), ties counting half.

    Args:
        values: shape [n].
        labels: 1 or 0, both present, shape [n].
    """
    ones, zeros = values[labels == 1], np.sort(values[labels == 0])
    below = np.searchsorted(zeros, ones, side="left")
    up_to = np.searchsorted(zeros, ones, side="right")
    return float((below + up_to).mean() / 2 / len(zeros))


def tables(summary: Summary) -> Iterator[Table | Text]:
    """The summary for a terminal."""
    yield _spread_table(summary)
    if summary.truncated:
        yield Text(f"{summary.truncated:,} pairs are longer than the model reads: prompts are cut")
    yield _two_columns("quantile", "mean", summary.quantiles, "{:+.3f}")
    votes = {f"{count} of {summary.members}": pairs for count, pairs in enumerate(summary.votes)}
    yield _two_columns("votes for chosen", "pairs", votes, "{:,}")
    if (other := summary.agreement) is not None:
        yield Text(
            f"{other.column} agrees with the label in {other.agreement:.1%} of {other.pairs:,} "
            f"pairs; AUC of the mean {other.auc:.3f}"
        )
        yield _agreement_table(other)


def _spread_table(summary: Summary) -> Table:
    unit = ", each member over its root mean square" if summary.standardised else ""
    table = Table(title=f"Strength by {summary.model}{unit}")
    for column in ("", "pairs", "mean < 0", "mean", "std over members"):
        table.add_column(column, justify="right" if column else "left")
    for name, spread in [("all", summary.all), *summary.sources.items()]:
        numbers = (f"{spread.negative:.1%}", f"{spread.mean:+.3f}", f"{spread.std:.3f}")
        table.add_row(Text(name), f"{spread.pairs:,}", *numbers)
    return table


def _two_columns(first: str, second: str, values: Mapping[str, float], shape: str) -> Table:
    table = Table()
    for column in (first, second):
        table.add_column(column, justify="right")
    for name, value in values.items():
        table.add_row(name, shape.format(value))
    return table


def _agreement_table(agreement: Agreement) -> Table:
    table = Table(title="agreement by strength")
    for column in ("tenth", "pairs", "mean", "agreement", "95 % interval", "expected"):
        table.add_column(column, justify="right")
    for number, decile in enumerate(agreement.deciles, start=1):
        found = decile.agreement
        interval = "" if found.low is None else f"{found.low:.3f} to {found.high:.3f}"
        numbers = (f"{decile.mean:+.3f}", f"{found.value:.3f}", interval, f"{decile.expected:.3f}")
        table.add_row(str(number), f"{decile.pairs:,}", *numbers)
    return table
