"""The report's pictures, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.auc import DETECTORS, Detector
from reproduction.results import Detection
from reproduction.shares import Row
from reward_trainer.evaluate.statistics import Estimate
from reward_trainer.preferences.writing import replacing

_DPI = 110
_COLOURS = ("#4c78a8", "#72b7b2", "#f58518", "#b279a2", "#e45756", "#54a24b")
_LINE = "#222222"
_BARS = 50


def save(figure: Figure, path: Path) -> None:
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=_DPI)


def detection_plot(rates: Mapping[float, Mapping[str, Detector]]) -> Figure:
    """AUC of each detector, a group of points for each rate."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for offset, name in enumerate(DETECTORS):
        for group, detectors in enumerate(rates.values()):
            place = group + (offset - 1.5) * 0.15
            label = name if group == 0 else None
            _point(axes, place, detectors[name].auc, _COLOURS[offset], label)
    axes.set_xticks(range(len(rates)), [f"{rate:.0%} flipped" for rate in rates])
    axes.set(ylabel="AUC, flipped labels from clean ones", xlim=(-0.5, len(rates) - 0.5))
    axes.legend(frameon=False, fontsize=8)
    return figure


def strength_plot(folds: Sequence[Detection], rate: float) -> Figure:
    """Ensemble means of clean and of turned labels."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    means = np.concatenate([np.mean(fold.differences, axis=0) for fold in folds])
    flipped = np.concatenate([fold.flipped for fold in folds]) == 1
    edges = np.linspace(np.quantile(means, 0.002), np.quantile(means, 0.998), _BARS)
    for rows, colour, name in ((~flipped, _COLOURS[0], "clean"), (flipped, _COLOURS[4], "flipped")):
        axes.hist(means[rows], bins=edges.tolist(), alpha=0.6, color=colour, label=name)
    axes.axvline(0.0, color=_LINE, linewidth=0.8)
    axes.set(
        xlabel="cross-fitted ensemble mean of score(chosen) - score(rejected)",
        ylabel="pairs",
        title=f"{rate:.0%} of the labels flipped",
    )
    axes.legend(frameon=False)
    return figure


def recovery_plot(rates: Mapping[float, Sequence[Row]], clean: float) -> Figure:
    """Accuracy on unseen roots, a group of points for each rate, beside clean labels."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(row.choice.label for rows in rates.values() for row in rows))
    for number, name in enumerate(names):
        label: str | None = name
        for group, rows in enumerate(rates.values()):
            place = group + (number - (len(names) - 1) / 2) * 0.12
            for row in (row for row in rows if row.choice.label == name):
                _point(axes, place, row.accuracy, _COLOURS[number % len(_COLOURS)], label)
                label = None
    axes.axhline(clean, color=_LINE, linewidth=0.8, linestyle="--", label="bt on clean labels")
    axes.set_xticks(range(len(rates)), [f"{rate:.0%} flipped" for rate in rates])
    axes.set(ylabel="accuracy on unseen roots", xlim=(-0.5, len(rates) - 0.5))
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def _point(axes: Axes, place: float, estimate: Estimate, colour: str, label: str | None) -> None:
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    axes.plot([place, place], [low, high], color=colour, linewidth=1.5)
    axes.plot([place], [estimate.value], "o", color=colour, markersize=5, label=label)
