"""Pictures of a dataset's strength, as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from reward_trainer.preferences.writing import replacing
from reward_trainer.strength.differences import Array
from reward_trainer.strength.summary import Agreement, Summary

_SIZE = (7.0, 4.2)
_DPI = 150
_BARS = 60
_POINTS = 5000
_GROUPS = 20
_AGREES, _DISAGREES, _LINE = "#4c78a8", "#e45756", "#222222"


def save_plots(folder: Path, differences: Array, summary: Summary) -> list[Path]:
    """Draw what the summary describes.

    Args:
        folder: where the files go.
        differences: shape [pairs, members].
        summary: of the same pairs.

    Returns:
        The files: `histogram.png`, `spread.png` and, with labels to compare, `agreement.png`.

    Raises:
        DataError: a file cannot be written.
    """
    figures = {
        "histogram.png": _histogram(differences.mean(axis=1), summary),
        "spread.png": _spread(differences, summary),
    }
    if summary.agreement is not None:
        figures["agreement.png"] = _agreement(summary.agreement, summary.model)
    for name, figure in figures.items():
        with replacing(folder / name) as file:
            figure.savefig(file, format="png", dpi=_DPI)
    return [folder / name for name in figures]


def _histogram(mean: Array, summary: Summary) -> Figure:
    """Means by size; those below 0 disagree with the label."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    width = (mean.max() - mean.min()) / _BARS or 1.0
    first, last = np.floor(mean.min() / width), np.floor(mean.max() / width) + 1
    edges = np.arange(first, last + 1) * width  # 0 is an edge: no bar holds both signs
    for values, colour, name in (
        (mean[mean < 0], _DISAGREES, f"disagrees with the label ({summary.all.negative:.1%})"),
        (mean[mean >= 0], _AGREES, "agrees"),
    ):
        axes.hist(values, bins=edges.tolist(), color=colour, label=name)
    axes.axvline(0.0, color=_LINE, linewidth=0.8)
    axes.set(
        xlabel="mean over members of score(chosen) - score(rejected)",
        ylabel="pairs",
        title=f"Preference strength of {len(mean):,} pairs by {summary.model}",
    )
    axes.legend(frameon=False)
    return figure


def _spread(differences: Array, summary: Summary) -> Figure:
    """How far members part, against the mean: a U for many datasets, lowest near 0."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    mean, std = differences.mean(axis=1), differences.std(axis=1)
    shown = np.random.default_rng(0).permutation(len(mean))[:_POINTS]
    axes.scatter(mean[shown], std[shown], s=6, alpha=0.35, color=_AGREES, linewidths=0)
    groups = np.array_split(np.argsort(mean, kind="stable"), min(_GROUPS, len(mean)))
    axes.plot(
        [mean[rows].mean() for rows in groups],
        [std[rows].mean() for rows in groups],
        color=_LINE,
        marker="o",
        markersize=3,
        label=f"means of {len(groups)} groups of equal size",
    )
    axes.axvline(0.0, color=_LINE, linewidth=0.8)
    axes.set(
        xlabel="mean over members of score(chosen) - score(rejected)",
        ylabel="population std over members",
        title=f"How far the {summary.members} members of {summary.model} part",
        ylim=(0, None),
    )
    axes.legend(frameon=False)
    return figure


def _agreement(agreement: Agreement, model: str) -> Figure:
    """The other label's agreement by strength, beside what the ensemble itself expects."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    means = [decile.mean for decile in agreement.deciles]
    observed = [decile.agreement for decile in agreement.deciles]
    spans = [(d.value, d.value) if d.low is None else (d.low, d.high) for d in observed]
    expected = [decile.expected for decile in agreement.deciles]
    values = [estimate.value for estimate in observed]
    axes.plot(means, values, marker="o", color=_AGREES, label=f"agreement of {agreement.column}")
    axes.vlines(means, *zip(*spans, strict=True), color=_AGREES, label="95 % interval, by roots")
    axes.plot(means, expected, linestyle="--", color=_LINE, label="expected by the ensemble, T = 1")
    axes.axhline(0.5, color=_LINE, linewidth=0.8)
    axes.axvline(0.0, color=_LINE, linewidth=0.8)
    axes.set(
        xlabel=f"mean strength of each tenth of {agreement.pairs:,} pairs, by {model}",
        ylabel="share that sides with chosen",
        title=f"AUC of the ensemble mean {agreement.auc:.3f}",
        ylim=(-0.02, 1.02),
    )
    axes.legend(frameon=False)
    return figure
