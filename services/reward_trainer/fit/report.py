"""How well an ensemble ranks held-out pairs, beside what the length of the text alone would do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from reward_trainer.fit.pairs import Pair

_RESAMPLES = 2000
_SEED = 0
Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A share or difference with its 95 % interval."""

    value: float
    low: float
    high: float


class SourceReport(BaseModel):
    """One source's held-out pairs."""

    model_config = ConfigDict(frozen=True)

    source: str
    pairs: int
    roots: int = Field(description="Conversation roots, which the intervals resample.")
    accuracy: Estimate
    length_rule: float = Field(description="Accuracy of preferring the longer, or the shorter.")
    gain: Estimate = Field(description="Accuracy minus the length rule's, paired.")
    longer_loses: Estimate | None = Field(
        description="Accuracy where the longer text is the worse one; None = no such pair."
    )


def report(pairs: Sequence[Pair], differences: Array) -> list[SourceReport]:
    """Measure each source of some pairs.

    Args:
        pairs: held-out pairs, any number of sources.
        differences: the ensemble mean of score(chosen) - score(rejected), shape [pairs].
    """
    sources = list(dict.fromkeys(pair.source for pair in pairs))
    rows = {s: [i for i, pair in enumerate(pairs) if pair.source == s] for s in sources}
    return [_one([pairs[i] for i in rows[s]], differences[rows[s]]) for s in sources]


def _one(pairs: Sequence[Pair], differences: Array) -> SourceReport:
    extra = np.array([pair.extra_length for pair in pairs], dtype=float)
    correct, longer, loses = right(differences), right(extra), extra < 0
    rule = longer if longer.mean() >= 0.5 else 1 - longer
    roots = np.unique([pair.root for pair in pairs], return_inverse=True)[1]
    counts = resampled_roots(int(roots.max()) + 1)

    def estimate(values: Array, among: NDArray[np.bool_] | None = None) -> Estimate:
        chosen = np.ones(len(values), dtype=bool) if among is None else among
        return clustered_mean(values[chosen], roots[chosen], counts)

    return SourceReport(
        source=pairs[0].source,
        pairs=len(pairs),
        roots=counts.shape[1],
        accuracy=estimate(correct),
        length_rule=float(rule.mean()),
        gain=estimate(correct - rule),
        longer_loses=estimate(correct, loses) if loses.any() else None,
    )


def right(differences: Array) -> Array:
    """1 where a pair is ranked right, 0 where wrong, one half for a tie."""
    return (np.sign(differences) + 1) / 2


def resampled_roots(roots: int) -> Array:
    """How often each root is drawn in each bootstrap resample, shape [resamples, roots]."""
    random = np.random.default_rng(_SEED)
    return random.multinomial(roots, np.full(roots, 1 / roots), size=_RESAMPLES).astype(float)


def clustered_mean(values: Array, roots: NDArray[np.intp], counts: Array) -> Estimate:
    """Mean over pairs, with the percentile interval of a bootstrap over roots.

    Pairs of one root share texts and rise and fall together, so whole roots are drawn. A resample
    that holds none of the values is left out.

    Args:
        values: one number per pair, shape [pairs].
        roots: index of each pair's root, shape [pairs].
        counts: see `resampled_roots`.
    """
    width = counts.shape[1]
    sums = counts @ np.bincount(roots, weights=values, minlength=width)
    sizes = counts @ np.bincount(roots, minlength=width)
    means = sums[sizes > 0] / sizes[sizes > 0]
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))


def markdown_table(rows: Sequence[SourceReport]) -> str:
    """The reports as a Markdown table, shares with three digits."""
    columns: dict[str, Callable[[SourceReport], str]] = {
        "source": lambda row: row.source,
        "pairs": lambda row: f"{row.pairs:,}",
        "roots": lambda row: f"{row.roots:,}",
        "accuracy": lambda row: _show(row.accuracy),
        "longer or shorter": lambda row: _share(row.length_rule),
        "difference": lambda row: _show(row.gain, sign="+"),
        "accuracy where the longer loses": lambda row: _show(row.longer_loses),
    }
    header = [list(columns), ["---", *["---:"] * (len(columns) - 1)]]
    body = [[cell(row) for cell in columns.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*header, *body])


def _show(estimate: Estimate | None, sign: str = "") -> str:
    if estimate is None:
        return "no such pair"
    value, low, high = (_share(number, sign) for number in estimate)
    return f"{value} [{low}, {high}]"


def _share(number: float, sign: str = "") -> str:
    return f"{number:{sign}.3f}".replace("0.", ".", 1)
