"""README.md and its plots, made from the cells that were run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from reproduction.auc import compare_detectors
from reproduction.cells import Cells
from reproduction.collected import Collected
from reproduction.plots import detection_plot, recovery_plot, save, strength_plot
from reproduction.results import NoiseCell
from reproduction.scales import BASELINE, SCALES, Candidate, Scale
from reproduction.shares import Row, choices, fixed, rows
from reward_trainer.evaluate.statistics import Estimate
from reward_trainer.preferences.writing import replacing

_ABOUT = """# Reproduction

How far an ensemble finds wrong labels, and what training gains by that (arXiv 2401.06080, sections
2.2 to 2.5). This file is made by `python -m reproduction` from the cells in `cells`; a cell that
was not run is missing here.
"""
_DESIGN = """
Labels are flipped by chance in the training part before any model trains, whatever the label
(symmetric noise), and the held-out roots' labels are clean. Folds are by root: a root's texts are
in one part only. Strength is cross-fitted inside the training part, by root too: no member scores
a pair, or a text, that it was trained on. Intervals are 95 % bootstraps over roots; they hold no
spread over seeds.
"""
_DETECTORS = """
AUC: the chance that a clean label has a higher value than a flipped one. `ensemble mean` and `one
member` are cross-fitted (the latter is the mean AUC of the members alone); `log length` is
log(characters of chosen / of rejected); `pair graph` reads no text: Bradley-Terry strengths of the
texts from the noisy labels of the OTHER pairs, a tenth left out at a time. The graph knows other
labels of the very texts that it judges, which the ensemble does not, and it knows nothing where
each text is judged once. `mean ahead` is the ensemble mean's AUC minus this detector's, paired.
"""
_RECIPES = """
Accuracy on clean labels of unseen roots, the mean over models with different seeds; `models`
is the worst and the best of them. A recipe's threshold is the one that agrees best with the NOISY
labels of the other folds' held-out roots: neither clean labels nor the rate of noise take part in
the choice. `gain` is over Bradley-Terry on the same noisy labels, in points, paired; `recovered` is
the gain over what Bradley-Terry on clean labels gains. `any of these` chooses the recipe likewise.
"""

_RUNNING = """
## Run it

```
PYTHONPATH=tests .venv/bin/python -m reproduction --scale {scale} --out tests/reproduction
```

A stopped run goes on where it was. `--only "rate40-*"` runs some cells; several processes share the
work if their patterns name different rates, each best with `--threads 1`. `--report-only` makes
this file anew.
"""


def write_report(out: Path, shown: Scale) -> None:
    """Write README.md and the plots of a scale.

    Args:
        out: folder with `cells`.
        shown: the scale whose numbers are shown; of the others, how many cells were run.

    Raises:
        DataError: a cell is damaged, or a file cannot be written.
    """
    found = {
        name: Collected(scale, Cells(out / "cells" / name, NoiseCell))
        for name, scale in SCALES.items()
    }
    tables = _tables(found[shown.name], out)
    lines = [_ABOUT, *_scales(found), *tables, _RUNNING.format(scale=shown.name)]
    with replacing(out / "README.md") as file:
        file.write(("\n".join(lines).rstrip() + "\n").encode())


def _scales(found: dict[str, Collected]) -> Iterator[str]:
    yield "| scale | cells run | training pairs | rates | folds | members | seeds | minutes |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, collected in found.items():
        scale = collected.scale
        rates = ", ".join(f"{rate:.0%}" for rate in sorted(scale.rates))
        size = "all" if scale.train_pairs is None else f"{scale.train_pairs:,}"
        yield (
            f"| `{name}` | {len(collected.run)} of {len(collected.specs)} | {size} | {rates} | "
            f"{scale.folds}, inner {scale.inner_folds} | {scale.members} | {scale.seeds} | "
            f"{_minutes(collected)} |"
        )


def _minutes(collected: Collected) -> str:
    cells = collected.run
    if not cells:
        return "missing"
    wall, cpu = sum(cell.minutes for cell in cells), sum(cell.cpu_minutes for cell in cells)
    return f"{wall:.1f}, of one core {cpu:.1f}"


def _tables(collected: Collected, out: Path) -> Iterator[str]:
    scale = collected.scale
    yield f"\n## Scale `{scale.name}`"
    yield _DESIGN
    yield from _setting(collected)
    yield "\n## Finding flipped labels"
    yield _DETECTORS
    yield from _detection(collected, out)
    yield "\n## Training despite them"
    yield _RECIPES
    yield from _recovery(collected, out)


def _setting(collected: Collected) -> Iterator[str]:
    """What the cells say of themselves."""
    scale = collected.scale
    recipe = scale.strength_recipe
    layers = "all layers" if recipe.layers is None else f"{recipe.layers} layers"
    yield (
        f"Sources: {', '.join(scale.sources)}. Backbone `{recipe.backbone}`, {layers}, the lowest "
        f"{recipe.trunk_layers} frozen, adapters of rank {recipe.rank}; epochs {recipe.epochs}, "
        f"learning rate {recipe.learning_rate:g}, {recipe.train_tokens} tokens."
    )
    clean = collected.clean()
    if clean is not None:
        roots, pairs = sum(len(f.roots) for f in clean), sum(sum(f.pairs) for f in clean)
        trained = ", ".join(str(fold.train_pairs) for fold in clean)
        yield f"\n{pairs:,} test pairs of {roots} roots in all; {trained} training pairs by fold."


def _detection(collected: Collected, out: Path) -> Iterator[str]:
    found = {rate: collected.detections(rate) for rate in sorted(collected.scale.rates) if rate > 0}
    compared = {rate: compare_detectors(folds) for rate, folds in found.items() if folds}
    yield "| flipped | folds | detector | AUC | mean ahead |"
    yield "| --- | --- | --- | --- | --- |"
    for rate, folds in found.items():
        start = f"| {rate:.0%} | {len(folds)} of {collected.scale.folds} |"
        if rate not in compared:
            yield f"{start} missing | | |"
        for name, detector in compared.get(rate, {}).items():
            ahead = "" if detector.behind is None else _signed(detector.behind)
            yield f"{start} {name} | {_estimate(detector.auc)} | {ahead} |"
    if compared:
        save(detection_plot(compared), out / "detection.png")
        last = max(compared)
        save(strength_plot(found[last], last), out / "strength.png")
        yield "\n![AUC of detectors](detection.png)"
        yield "\n![Strength of clean and flipped labels](strength.png)"


def _recovery(collected: Collected, out: Path) -> Iterator[str]:
    clean = collected.clean()
    shown: dict[float, list[Row]] = {}
    for rate in sorted(collected.scale.trained_rates):
        yield f"\n### {rate:.0%} flipped\n"
        yield from _missing(collected, rate)
        cells = collected.recoveries(rate)
        if clean is None or BASELINE not in cells:
            continue
        present = [c for c in collected.scale.candidates if c.name in cells]
        shown[rate] = rows(choices(present, cells), cells, clean)
        yield from _table(shown[rate])
        every = [fixed(c, collected.scale.folds) for c in present if c.threshold]
        yield "\nEvery threshold, the same in all folds:\n"
        yield from _table(rows(every, cells, clean))
    if shown and clean is not None:
        (ceiling,) = rows([fixed(Candidate(family=BASELINE), len(clean))], {BASELINE: clean}, clean)
        save(recovery_plot(shown, ceiling.accuracy.value), out / "recovery.png")
        yield "\n![Accuracy by recipe](recovery.png)"


def _missing(collected: Collected, rate: float) -> Iterator[str]:
    folds = collected.scale.folds
    counts = {c.name: collected.count(rate, c) for c in collected.scale.candidates}
    short = [
        f"`{name}` ({count} of {folds} folds)" for name, count in counts.items() if count < folds
    ]
    if short:
        yield f"missing: {', '.join(short)}\n"


def _table(lines: Sequence[Row]) -> Iterator[str]:
    yield "| recipe | thresholds by fold | accuracy | models | gain | recovered |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in lines:
        label, names = row.choice.label, row.choice.names
        chosen = ", ".join(name.removeprefix(label).strip() for name in names)
        recovered = "" if row.recovered is None else _estimate(row.recovered, 2)
        yield (
            f"| {label} | {chosen.strip(', ')} | {_estimate(row.accuracy)} | "
            f"{row.seeds[0]:.3f} to {row.seeds[1]:.3f} | {_signed(row.gain)} | {recovered} |"
        )


def _estimate(estimate: Estimate, digits: int = 3) -> str:
    return f"{estimate.value:.{digits}f}{_interval(estimate, digits, '')}"


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f}{_interval(estimate, 3, '+')}"


def _interval(estimate: Estimate, digits: int, sign: str) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" ({estimate.low:{sign}.{digits}f} to {estimate.high:{sign}.{digits}f})"
