"""What goes wrong in online training without any error, seen in the records of its updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # with them comes torch, which metrics do without
    from reward_trainer.online.drift import Drift
    from reward_trainer.online.step import StepRecord

KINDS = ("meta_gradient_unstable", "score_inflation", "drift")
_FIRST, _LAST = 20, 50  # records that are kept: what a lineage began with, and where it is
_WINDOW = 10
_UNSTABLE = 10.0  # times the usual norm of J's gradient
_INFLATED, _SEPARATED = 1.5, 1.1
_VARIANCE_LEFT, _DISAGREEMENT, _LENGTH = 0.5, 1.5, 0.2


class Warned(NamedTuple):
    """Something that a person should know.

    Attributes:
        kind: one of `KINDS`.
        about: the policy of a drift; else empty.
        detail: what was seen, and what helps.
    """

    kind: str
    about: str
    detail: str

    @property
    def key(self) -> str:
        """Equal for warnings of which one is enough."""
        return f"{self.kind}:{self.about}"


def remember(history: Sequence[StepRecord], record: StepRecord) -> list[StepRecord]:
    """The first and the newest records of a lineage, with one more."""
    longer = [*history, record]
    return longer if len(longer) <= _FIRST + _LAST else [*longer[:_FIRST], *longer[-_LAST:]]


def warnings(history: Sequence[StepRecord]) -> list[Warned]:
    """All warnings that the records give, whether or not they were given before."""
    found = [rule(history) for rule in (meta_gradient_unstable, score_inflation)]
    policies = sorted({policy for record in history for policy in record.drift})
    return [
        *(warned for warned in found if warned),
        *(warned for policy in policies if (warned := drift(history, policy))),
    ]


def meta_gradient_unstable(history: Sequence[StepRecord]) -> Warned | None:
    """The gradient of J is many times as large as it used to be."""
    norms = [record.separation_gradient for record in history]
    before, recent = norms[:-_WINDOW], norms[-_WINDOW:]
    if len(before) < _WINDOW or median(recent) <= _UNSTABLE * median(before):
        return None
    return Warned(
        "meta_gradient_unstable",
        "",
        f"J's gradient has a norm of {median(recent):.3g}, before it was {median(before):.3g}: "
        "lower the ascent rate or the learning rate",
    )


def score_inflation(history: Sequence[StepRecord]) -> Warned | None:
    """Differences grow and all scores with them, so that nothing is told apart any better.

    J saturates where this does not, so that J alone looks like progress.
    """
    if len(history) < 2 * _WINDOW:
        return None
    first, last = history[:_WINDOW], history[-_WINDOW:]
    grown = _ratio(first, last, lambda record: record.difference)
    against_spread = _ratio(first, last, lambda r: r.difference / max(r.spread, 1e-12))
    if grown < _INFLATED or against_spread > _SEPARATED:
        return None
    return Warned(
        "score_inflation",
        "",
        f"differences within groups are {grown:.2f} times what they were, and over the spread of "
        f"all scores {against_spread:.2f} times: lower the learning rate, or take another rule",
    )


def drift(history: Sequence[StepRecord], policy: str) -> Warned | None:
    """A policy's samples are scored as they were not when the lineage began."""
    seen = [record.drift[policy] for record in history if policy in record.drift]
    if len(seen) < 2 * _WINDOW:
        return None
    signs = list(_signs(seen[:_WINDOW], seen[-_WINDOW:]))
    return Warned("drift", policy, "; ".join(signs)) if signs else None


def _signs(first: Sequence[Drift], last: Sequence[Drift]) -> Sequence[str]:
    signs = []
    variance = [_mean([one.variance for one in part]) for part in (first, last)]
    if variance[1] < _VARIANCE_LEFT * variance[0]:
        signs.append(f"variance of score differences {variance[0]:.3g} -> {variance[1]:.3g}")
    spread = [_mean([one.disagreement or 0.0 for one in part]) for part in (first, last)]
    if spread[1] > _DISAGREEMENT * spread[0] > 0:
        signs.append(f"disagreement of the members {spread[0]:.3g} -> {spread[1]:.3g}")
    length = [_mean([one.length_correlation or 0.0 for one in part]) for part in (first, last)]
    if abs(length[1] - length[0]) > _LENGTH:
        signs.append(f"correlation with length {length[0]:+.2f} -> {length[1]:+.2f}")
    return signs


def _ratio(
    first: Sequence[StepRecord], last: Sequence[StepRecord], of: Callable[[StepRecord], float]
) -> float:
    return _mean([of(record) for record in last]) / max(_mean([of(r) for r in first]), 1e-12)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
