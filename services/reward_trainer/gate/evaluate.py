"""One candidate against its parent and the anchor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from assay.errors import InvalidInputError, ScoringError
from assay.models.scorer import Scorer
from reward_trainer.evaluate.statistics import Array, Roots, right
from reward_trainer.gate import rules
from reward_trainer.gate.data import GateData
from reward_trainer.gate.layout import Layout, Rows
from reward_trainer.gate.measuring import Measured, measure
from reward_trainer.gate.report import GateReport, RuleResult, Shift

NAMES = (
    "finite",
    "enough_pairs",
    "accuracy_parent",
    "accuracy_anchor",
    "separation",
    "relative_difference",
    "score_mean",
    "score_std",
    "length_correlation",
    "probe_parent",
    "probe_anchor",
)

_MANY_GROUPS = 100  # of as many prompts one is held out, but for a chance of 3 in 100,000


class _Versions(NamedTuple):
    candidate: Measured
    parent: Measured
    anchor: Measured


def evaluate(
    candidate: Scorer | Measured,
    parent: Scorer | Measured,
    anchor: Scorer | Measured,
    data: GateData,
) -> GateReport:
    """Score all versions on the gate's data and judge the candidate by every rule.

    Args:
        candidate: the version that asks to be promoted, calibrated as it would be served.
        parent: the version that it was trained from.
        anchor: the last version that a person promoted.
        data: what they are scored on; versions that were measured before must have been so on it.

    Raises:
        InvalidInputError: a text does not fit a model, or a measurement is of other data.
        ScoringError: the parent or the anchor gives a score that is not finite.
    """
    layout = Layout.of(data)
    versions = _Versions(*(_measured(v, data, layout) for v in (candidate, parent, anchor)))
    for version in versions[1:]:
        if not version.finite:
            raise ScoringError(f"{version.model} gives scores that are not finite: roll it back")
    is_finite = rules.finite(versions.candidate.scores)
    if not is_finite.passed:
        return GateReport.of([is_finite, *_unjudged(layout)], "unverified")
    probed, shift = _probe(versions, layout, data)
    judged = [
        rules.enough_pairs(len(layout.held)),
        *_accuracy(versions, layout),
        *_groups(versions, layout, data),
        *_scale(versions, layout, data),
        _length(versions, layout),
        *probed,
    ]
    return GateReport.of([is_finite, *judged], shift)


def _measured(version: Scorer | Measured, data: GateData, layout: Layout) -> Measured:
    if isinstance(version, Scorer):
        return measure(version, data, layout)
    if version.layout.digest != layout.digest:
        raise InvalidInputError(f"{version.model} was measured on other data: measure it again")
    return version


def _unjudged(layout: Layout) -> list[RuleResult]:
    """What is left of the rules without scores."""
    reason = "the candidate's scores are not finite"
    names = [name for name in NAMES if name not in ("finite", "enough_pairs")]
    missing = [rules.not_measured(name, "", reason) for name in names]
    return [rules.enough_pairs(len(layout.held)), *missing]


def _accuracy(versions: _Versions, layout: Layout) -> list[RuleResult]:
    limits = {"parent": rules.MOST_DROP_PARENT, "anchor": rules.MOST_DROP_ANCHOR}
    if not len(layout.held):
        reason = "no preference pairs are held out"
        return [
            rules.not_measured(f"accuracy_{versus}", f"below {most:g}", reason)
            for versus, most in limits.items()
        ]
    clusters = Roots.of(layout.held_clusters)
    own, parent, anchor = (_right(version, layout.held) for version in versions)
    return [
        rules.accuracy_drop("parent", own, parent, clusters, limits["parent"]),
        rules.accuracy_drop("anchor", own, anchor, clusters, limits["anchor"]),
    ]


def _groups(versions: _Versions, layout: Layout, data: GateData) -> list[RuleResult]:
    if not layout.groups:
        return [_without_groups(name, data) for name in ("separation", "relative_difference")]
    told_apart = (rules.group_separation(v.scores, layout.groups) for v in versions)
    results = [rules.separation(*told_apart)]
    if not len(layout.reference):
        reason = "there is no reference set without held-out pairs"
        return [*results, rules.not_measured("relative_difference", "", reason)]
    own, anchor = (
        rules.group_differences(version.scores, layout.groups, layout.reference)
        for version in (versions.candidate, versions.anchor)
    )
    clusters = Roots.of(layout.group_clusters)
    return [*results, rules.relative_difference(own, anchor, clusters)]


def _scale(versions: _Versions, layout: Layout, data: GateData) -> list[RuleResult]:
    if not len(layout.reference):
        reason = "there is no reference set without held-out pairs"
        return [rules.not_measured(name, "", reason) for name in ("score_mean", "score_std")]
    own, anchor = (v.mean[layout.reference] for v in (versions.candidate, versions.anchor))
    return [_mean(versions, layout, data), rules.score_std(own, anchor)]


def _mean(versions: _Versions, layout: Layout, data: GateData) -> RuleResult:
    """The mean of the reference set, or for calibrated versions that of the samples over it.

    Deviation: ensembles are centred when they are saved, each on calibration pairs of its own, so
    that a jump of their means is none of the training. Both are brought to a mean of 0 on the
    reference set, and what is compared is the mean of the samples: whether the candidate has come
    to like what policies write.
    """
    own, anchor = versions.candidate, versions.anchor
    reference, samples = layout.reference, layout.samples
    std = float(anchor.mean[reference].std())
    if not (own.calibrated or anchor.calibrated):
        return rules.score_mean(own.mean[reference], anchor.mean[reference], std, "reference texts")
    if not len(samples):
        return _without_groups("score_mean", data)
    over, of_anchor = (v.mean[samples] - v.mean[reference].mean() for v in (own, anchor))
    return rules.score_mean(over, of_anchor, std, "samples over the reference texts")


def _length(versions: _Versions, layout: Layout) -> RuleResult:
    return rules.length_correlation(
        versions.candidate.mean, versions.anchor.mean, layout.lengths, layout.prompts
    )


def _probe(
    versions: _Versions, layout: Layout, data: GateData
) -> tuple[Sequence[RuleResult], Shift]:
    out = f"{data.probe_trained:,} are left out, as their conversations are trained on"
    if not len(layout.probe):
        reason = f"of the probe {out}" if data.probe_trained else "there is no probe"
        reason += ": `assay probe add` labelled recent samples"
        return [_nothing_yet(name, reason) for name in ("probe_parent", "probe_anchor")], (
            "unverified"
        )
    clusters = Roots.of(layout.probe_clusters)
    own, parent, anchor = (_right(version, layout.probe) for version in versions)
    found = [
        rules.probe_drop("parent", own, parent, clusters, rules.MOST_DROP_PARENT),
        rules.probe_drop("anchor", own, anchor, clusters, rules.MOST_DROP_ANCHOR),
    ]
    shown = all(no_worse for _, no_worse in found)
    results = [result for result, _ in found]
    if data.probe_trained:
        results = [r.model_copy(update={"detail": f"{r.detail}; {out}"}) for r in results]
    return results, "verified" if shown else "unverified"


def _right(version: Measured, pairs: Rows) -> Array:
    scores = version.mean
    return right(scores[pairs[:, 0]] - scores[pairs[:, 1]])


def _without_groups(name: str, data: GateData) -> RuleResult:
    """Nothing to measure on: no fault of a lineage that is young, and one of an old one."""
    trained = data.groups_trained
    if trained < _MANY_GROUPS:
        return _nothing_yet(name, "no group of samples is held out yet")
    reason = f"no group is held out after {trained:,} trained on: there are too few prompts"
    return rules.not_measured(name, "", reason)


def _nothing_yet(name: str, reason: str) -> RuleResult:
    return RuleResult(
        name=name,
        passed=True,
        value=None,
        bound="",
        detail=f"not measured: {reason}",
        on_failure="report",
    )
