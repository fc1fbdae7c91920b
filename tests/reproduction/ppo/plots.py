"""Gain against KL, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ppo_worker.settings import RewardMode
from reproduction.ppo.collected import Curve

_COLOURS: Mapping[RewardMode, str] = {
    "score": "#4c78a8",
    "contrastive": "#f58518",
    "lcb": "#54a24b",
}
_ZERO = "#b8b8b8"


def gain_plot(curves: Mapping[RewardMode, Sequence[Curve]]) -> Figure:
    """A panel for each model that measures, a line for each policy."""
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("proxy: rewards the policy", "gold: never asked by the policy")
    for axes, title, name in zip(panels, titles, ("proxy", "gold"), strict=True):
        axes.axhline(0.0, color=_ZERO, linewidth=0.8)
        for mode, own in curves.items():
            for number, curve in enumerate(own):
                label = mode if number == 0 else None
                values = getattr(curve, name)
                axes.plot(curve.kl, values, "o-", color=_COLOURS[mode], markersize=3, label=label)
        axes.set(title=title, xlabel="KL to the base policy (nats)")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("gain (std of the base policy's scores)")
    panels[0].legend(frameon=False)
    return figure
