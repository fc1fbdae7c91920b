"""The curves of a run, as one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppo_worker.metrics import Evaluation, StepRecord

_SIZE, _DPI, _COLUMNS = (13.0, 6.2), 110, 4
_LINE, _HELD_OUT, _BASE, _SWAP = "#4c78a8", "#e45756", "#777777", "#b8b8b8"
_PANELS = (
    ("score", "score of the reward model"),
    ("reward", "reward, as the server gave it"),
    ("kl", "KL to the base policy (nats)"),
    ("length", "tokens of a completion"),
    ("entropy", "entropy (nats)"),
    ("clip_fraction", "share of tokens clipped"),
    ("perplexity", "perplexity"),
    ("disagreement", "std over members"),
)


def draw(steps: Sequence[StepRecord], evaluations: Sequence[Evaluation]) -> bytes:
    """One panel a figure of the steps, with what was measured on held-out prompts; a PNG file."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    panels = figure.subplots(-(-len(_PANELS) // _COLUMNS), _COLUMNS).flat
    for axes, (name, title) in zip(panels, _PANELS, strict=True):
        points = [(one.step, getattr(one, name)) for one in steps]
        known = [(step, value) for step, value in points if value is not None]
        axes.plot(*_columns(known), color=_LINE, label="training prompts")
        if name in ("score", "length", "kl"):
            _held_out(axes, evaluations, name)
        for step in _swaps(steps):
            axes.axvline(step, color=_SWAP, linewidth=0.8, linestyle=":")
        axes.set(title=title, xlabel="step")
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()


def _held_out(axes: Axes, evaluations: Sequence[Evaluation], name: str) -> None:
    points = [(one.step, getattr(one, name)) for one in evaluations]
    axes.plot(*_columns(points), color=_HELD_OUT, marker="o", markersize=3, label="held out")
    if name != "kl":
        base = [(one.step, getattr(one, f"base_{name}")) for one in evaluations]
        axes.plot(*_columns(base), color=_BASE, linestyle="--", label="held out, base policy")


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _swaps(steps: Sequence[StepRecord]) -> list[int]:
    """Steps that another version rewarded than the one before."""
    pairs = zip(steps, steps[1:], strict=False)
    return [now.step for before, now in pairs if now.model_version != before.model_version]
