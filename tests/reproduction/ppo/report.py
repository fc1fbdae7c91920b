"""README.md and its picture, made from the cells that were run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ppo_worker.demo import task
from reproduction.cells import Cells
from reproduction.plots import save
from reproduction.ppo.collected import Collected, Curve
from reproduction.ppo.gold import GOLD
from reproduction.ppo.plots import gain_plot
from reproduction.ppo.results import OptimisedCell
from reproduction.ppo.scales import Scale
from reproduction.runner import how_to_run
from reward_trainer.preferences.writing import replacing

_PICTURE = "gain.png"
_ABOUT = """# PPO: score, contrastive reward or lower confidence bound

Does a policy get better when an imperfect reward model says so? As in arXiv 2210.10760, one model
is taken for the truth (gold, `{gold}`), and another one (proxy) learns from its preferences. A
policy is then trained with `assay ppo --demo` against the proxy behind a real server, in each mode
of reward; gold reads what the policy says to held-out prompts, and no worker can ask it. This file
is made by `python -m reproduction.ppo` from the cells in `cells`.
"""
_DESIGN = """
Gains are differences from the base policy in standard deviations of the base policy's scores, by
proxy and by gold, on {prompts} prompts of topics that no one was trained on, {completions}
completions each. Each seed has a proxy of its own, which the modes share, with prompts in the same
order. In brackets: the lowest and the highest of {seeds} seeds; they and two topics are too few
for an interval.
"""


def write_report(out: Path, scale: Scale) -> None:
    """Write README.md and its picture.

    Args:
        out: folder with `cells`.
        scale: whose numbers are shown.

    Raises:
        DataError: a cell is damaged, or the file cannot be written.
    """
    collected = Collected(scale, Cells(out / "cells" / scale.name, OptimisedCell))
    lines = [_ABOUT.format(gold=GOLD), _setting(collected, scale)]
    if collected.seeds:
        lines += [_design(collected, scale), *_findings(collected), *_tables(collected)]
        lines.append(f"![gain against KL]({_PICTURE})")
        save(gain_plot(collected.curves), out / _PICTURE)
    else:
        lines.append("No numbers: no seed is complete.")
    lines.append(how_to_run("ppo", scale.name, "seed"))
    with replacing(out / "README.md") as file:
        file.write(("\n".join(lines).rstrip() + "\n").encode())


def _setting(collected: Collected, scale: Scale) -> str:
    minutes = sum(cell.cpu_minutes for cell in collected.cells)
    proxy, ppo = scale.training, scale.settings
    pairs = len(task.training_prompts()) * (scale.samples // 2)
    return (
        f"Scale `{scale.name}`: {len(collected.cells)} of {collected.expected} cells, "
        f"{minutes:.0f} minutes of one core besides the server's. Proxies: {proxy['members']} "
        f"members, {proxy['epochs']} epochs of at most {pairs:,} pairs of the base "
        f"policy's completions, {scale.flipped:.0%} of the labels turned round. Policies: "
        f"{ppo.steps} steps of {ppo.prompts_per_step} prompts x "
        f"{ppo.completions_per_prompt} completions, rewards clipped at {ppo.reward_clip}, KL "
        f"penalty {ppo.kl_coef}; {ppo.baselines} baselines a prompt, `lcb` with k = {ppo.lcb_k:g}."
    )


def _design(collected: Collected, scale: Scale) -> str:
    return _DESIGN.format(
        prompts=collected.prompts,
        completions=scale.settings.held_out_completions,
        seeds=len(collected.seeds),
    )


def _findings(collected: Collected) -> Iterator[str]:
    """Every pair of modes, at the end and where the KL is the same."""
    kl = collected.shared_kl
    yield "## What came out\n"
    for one, other in combinations(collected.curves, 2):
        pairs = list(zip(collected.curves[other], collected.curves[one], strict=True))
        ends = [a.gold[-1] - b.gold[-1] for a, b in pairs]
        same = [a.at(kl) - b.at(kl) for a, b in pairs]
        yield (
            f"- Gold, `{other}` less `{one}`: {_signed(ends)} after the last step, "
            f"{_signed(same)} at a KL of {kl:.1f} nats."
        )
    yield ""


def _tables(collected: Collected) -> Iterator[str]:
    kl = collected.shared_kl
    heads = ("mode", "proxy", "gold", "best gold", f"gold at {kl:.1f} nats", "KL", "length")
    cells: tuple[Callable[[Curve], float], ...] = (
        lambda curve: curve.proxy[-1],
        lambda curve: curve.gold[-1],
        lambda curve: curve.gold.max(),
        lambda curve: curve.at(kl),
        lambda curve: curve.kl[-1],
        lambda curve: curve.length[-1],
    )
    yield "After the last step, mean over seeds (lowest to highest):\n"
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for mode, own in collected.curves.items():
        values = [_signed([cell(curve) for curve in own]) for cell in cells[:4]]
        values += [_plain([cell(curve) for curve in own]) for cell in cells[4:]]
        yield f"| `{mode}` | {' | '.join(values)} |"
    yield ""


def _signed(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.2f} ({min(values):+.2f} to {max(values):+.2f})"


def _plain(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
