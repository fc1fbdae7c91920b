"""The rules, each a pure function of numbers. Scores of two versions stand in the same order.

Where harm would be dear the candidate must show that it does none (accuracy); where evidence is
scarce it passes unless harm is shown (separation, probe). Scale, mean and length go by the numbers
as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from assay.objectives import normalised_separation
from reward_trainer.evaluate.length import spearman
from reward_trainer.evaluate.statistics import Array, Roots
from reward_trainer.gate.bootstrap import mean_bounds, ratio_bounds
from reward_trainer.gate.layout import Rows
from reward_trainer.gate.report import RuleResult

MOST_DROP_PARENT, MOST_DROP_ANCHOR = 0.02, 0.03
LEAST_PAIRS = 1500
MOST_SHIFT = 0.5
LEAST_SCALE, MOST_SCALE = 0.67, 1.5
MOST_LENGTH = 0.10
LEAST_DIFFERENCE = 0.67


def finite(scores: Array) -> RuleResult:
    """Every score of every member is a number."""
    wrong = int((~np.isfinite(scores).all(axis=1)).sum())
    return RuleResult(
        name="finite",
        passed=wrong == 0,
        value=float(wrong),
        bound="0",
        detail=f"{wrong:,} of {len(scores):,} texts have a score that is not finite",
    )


def enough_pairs(pairs: int) -> RuleResult:
    """Whether the held-out pairs are enough to promote without a person."""
    return RuleResult(
        name="enough_pairs",
        passed=pairs >= LEAST_PAIRS,
        value=float(pairs),
        bound=f"at least {LEAST_PAIRS}",
        detail=f"{pairs:,} held-out pairs; with fewer than {LEAST_PAIRS:,} a person promotes",
        on_failure="manual",
    )


def accuracy_drop(
    versus: str, candidate: Array, other: Array, clusters: Roots, most: float
) -> RuleResult:
    """The candidate shows that it ranks held-out pairs no worse than another version.

    Args:
        versus: `parent` or `anchor`.
        candidate: what it earns on each pair, 1, 0 or one half (see `right`), shape [pairs].
        other: what the other version earns.
        clusters: of the pairs.
        most: what the one-sided 95 % upper bound of the drop must stay below.
    """
    drop = mean_bounds(other - candidate, clusters)
    name, bound = f"accuracy_{versus}", f"below {most:g}"
    if drop.high is None:
        return not_measured(name, bound, "the held-out pairs are all of one prompt")
    return RuleResult(
        name=name,
        passed=drop.high < most,
        value=drop.high,
        bound=bound,
        detail=f"{_accuracies(versus, candidate, other)} on {len(candidate):,} held-out pairs of "
        f"{clusters.number:,} prompts; the drop is {drop.value:+.4f}, at most {drop.high:+.4f}",
    )


def separation(candidate: Array, parent: Array, anchor: Array) -> RuleResult:
    """How far the completions of held-out groups are told apart; reported, not judged.

    Any inflation raises it, right or wrong, so that it has no bound of its own.

    Args:
        candidate: normalised J of each group, mean over members, shape [groups].
        parent: of the parent.
        anchor: of the anchor.
    """
    return RuleResult(
        name="separation",
        passed=True,
        value=float(candidate.mean()),
        bound="",
        detail=f"normalised J of {len(candidate):,} held-out groups, {candidate.mean():.4f}; "
        f"parent {parent.mean():.4f}, anchor {anchor.mean():.4f}",
        on_failure="report",
    )


def relative_difference(candidate: Array, anchor: Array, clusters: Roots) -> RuleResult:
    """Completions of held-out groups have not moved together, by |difference| / std.

    It fails if that is shown: if the one-sided 95 % upper bound of the ratio to the anchor is low.
    Groups of one prompt show nothing.

    Args:
        candidate: mean |difference| within each group over the std of all scores, shape [groups].
        anchor: of the anchor.
        clusters: of the groups.
    """
    bound = f"at least {LEAST_DIFFERENCE:g}"
    if not anchor.mean() > 0:
        return not_measured("relative_difference", bound, "the anchor has no differences")
    ratio = ratio_bounds(candidate, anchor, clusters)
    return RuleResult(
        name="relative_difference",
        passed=ratio.high is None or ratio.high >= LEAST_DIFFERENCE,
        value=ratio.value if ratio.high is None else ratio.high,
        bound=bound,
        detail=f"|difference| / std in {len(candidate):,} held-out groups {candidate.mean():.4f}, "
        f"anchor {anchor.mean():.4f}; the ratio is {ratio.value:.3f}{_at_most(ratio.high)}",
    )


def score_mean(candidate: Array, anchor: Array, std: float, texts: str) -> RuleResult:
    """The mean score of some texts stays, in units of the anchor's std.

    Args:
        candidate: scores of the texts, shape [texts].
        anchor: of the anchor.
        std: of the anchor's scores of the reference set.
        texts: what they are, for people.
    """
    bound = f"between -{MOST_SHIFT:g} and {MOST_SHIFT:g}"
    if not std > 0:
        return not_measured("score_mean", bound, "the anchor's scores are all equal")
    shift = float((candidate.mean() - anchor.mean()) / std)
    return RuleResult(
        name="score_mean",
        passed=abs(shift) <= MOST_SHIFT,
        value=shift,
        bound=bound,
        detail=f"mean score of {len(candidate):,} {texts} {candidate.mean():+.4f}, anchor "
        f"{anchor.mean():+.4f}: {shift:+.3f} of the anchor's std",
    )


def score_std(candidate: Array, anchor: Array) -> RuleResult:
    """The scale of the scores of the reference set stays.

    Args:
        candidate: scores of the reference set, shape [texts].
        anchor: of the anchor.
    """
    bound = f"between {LEAST_SCALE:g} and {MOST_SCALE:g}"
    if not anchor.std() > 0:
        return not_measured("score_std", bound, "the anchor's scores are all equal")
    ratio = float(candidate.std() / anchor.std())
    return RuleResult(
        name="score_std",
        passed=LEAST_SCALE <= ratio <= MOST_SCALE,
        value=ratio,
        bound=bound,
        detail=f"std of the scores of {len(candidate):,} reference texts {candidate.std():.4f}, "
        f"anchor {anchor.std():.4f}: {ratio:.3f} times",
    )


def length_correlation(
    candidate: Array, anchor: Array, lengths: Array, prompts: Sequence[Rows]
) -> RuleResult:
    """The candidate goes by length no more than the anchor, within prompts.

    Args:
        candidate: scores, shape [texts].
        anchor: of the anchor.
        lengths: characters of the completions, shape [texts].
        prompts: rows of each prompt's completions.
    """
    own, of_anchor = (within_prompts(scores, lengths, prompts) for scores in (candidate, anchor))
    bound = f"at most {MOST_LENGTH:g}"
    if own is None or of_anchor is None:
        reason = "no prompt has completions of different lengths"
        return not_measured("length_correlation", bound, reason)
    return RuleResult(
        name="length_correlation",
        passed=own - of_anchor <= MOST_LENGTH,
        value=own - of_anchor,
        bound=bound,
        detail=f"Spearman of score and length within {len(prompts):,} prompts {own:+.3f}, anchor "
        f"{of_anchor:+.3f}",
    )


def probe_drop(
    versus: str, candidate: Array, other: Array, clusters: Roots, most: float
) -> tuple[RuleResult, bool]:
    """The probe does not show that the candidate is worse than another version.

    Args:
        versus: as in `accuracy_drop`, whose arguments these are, of the probe's pairs.
        candidate: likewise.
        other: likewise.
        clusters: likewise.
        most: the rule fails if the one-sided 95 % lower bound of the drop is above it.

    Returns:
        The result, and whether the probe shows the contrary: an upper bound below `most`.
    """
    drop = mean_bounds(other - candidate, clusters)
    known = drop.low is not None and drop.high is not None
    between = f", between {drop.low:+.4f} and {drop.high:+.4f}" if known else ""
    result = RuleResult(
        name=f"probe_{versus}",
        passed=drop.low is None or drop.low <= most,
        value=drop.value if drop.low is None else drop.low,
        bound=f"at most {most:g}",
        detail=f"{_accuracies(versus, candidate, other)} on {len(candidate):,} labelled recent "
        f"samples of {clusters.number:,} prompts; the drop is {drop.value:+.4f}{between}",
    )
    return result, drop.high is not None and drop.high < most


def not_measured(name: str, bound: str, reason: str) -> RuleResult:
    """A rule without the numbers that it needs: a person must look."""
    return RuleResult(
        name=name,
        passed=False,
        value=None,
        bound=bound,
        detail=f"not measured: {reason}",
        on_failure="manual",
    )


def within_prompts(scores: Array, lengths: Array, prompts: Sequence[Rows]) -> float | None:
    """Spearman of score and length within prompts, weighed by completions less one.

    Equal scores count as no correlation; prompts with completions of one length are left out.

    Returns:
        The mean, or None if no prompt is left.
    """
    total = weight = 0.0
    for rows in prompts:
        if np.ptp(lengths[rows]) > 0:
            total += (len(rows) - 1) * (spearman(scores[rows], lengths[rows]) or 0.0)
            weight += len(rows) - 1
    return total / weight if weight else None


def group_separation(scores: Array, groups: Sequence[Rows]) -> Array:
    """Normalised J of each group, mean over members, shape [groups].

    Args:
        scores: shape [texts, members].
        groups: rows of each.
    """
    each = [normalised_separation(torch.from_numpy(scores[rows].T)) for rows in groups]
    return np.array([members.mean().item() for members in each])


def group_differences(scores: Array, groups: Sequence[Rows], reference: Rows) -> Array:
    """Mean |difference| within each group over the std of the reference set, shape [groups].

    Both are taken for each member, whose mean is returned.

    Args:
        scores: shape [texts, members].
        groups: rows of each.
        reference: rows of the reference set.
    """
    std = scores[reference].std(axis=0)
    scaled = scores / np.where(std > 0, std, np.inf)
    return np.array([_mean_difference(scaled[rows]) for rows in groups])


def _mean_difference(scores: Array) -> float:
    first, second = np.triu_indices(len(scores), k=1)
    return float(np.abs(scores[first] - scores[second]).mean())


def _accuracies(versus: str, candidate: Array, other: Array) -> str:
    return f"accuracy {candidate.mean():.4f}, {versus} {other.mean():.4f},"


def _at_most(high: float | None) -> str:
    return "" if high is None else f", at most {high:.3f}"
