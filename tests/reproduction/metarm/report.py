"""README.md, made from the cells that were run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reproduction.cells import Adapted, Cells, Ranked, Separated
from reproduction.metarm.collected import Collected
from reproduction.metarm.data import CHECKPOINTS, START
from reproduction.metarm.estimates import Measure, estimate
from reproduction.metarm.scales import METAS, NONE, RULES, VANILLA, Meta, Scale, Variant
from reward_trainer.evaluate.statistics import Estimate
from reward_trainer.preferences.writing import replacing

_ABOUT = """# MetaRM: what each update rule does

A reward model is trained on labelled arguments, then goes on for some steps by each rule of
`reward_trainer.online.rules` (arXiv 2401.06080, section 3.2; 2405.00438): the same pairs in the
same order, and groups of completions without labels that the rule separates. This file is made by
`python -m reproduction.metarm` from the cells in `cells`.
"""
_DESIGN = """
`none` is the trained model as it is; `vanilla` goes on with the labelled pairs alone. Groups come
from one of two places: `policy` = five samples a prompt from the RLHF checkpoints at 1k, 2k, 3k and
8k steps, in that order; `topics` = five arguments for one side of a topic of which no label was
seen. `shifted accuracy`: pairs of unseen topics, of texts that no rule reads. `original accuracy`:
other texts of the topics that were trained on. Every topic is unseen in one fold.

J is the normalised difference loss, 0 = all scores of a group equal; `|d| / std` is the mean
difference in a group over the std of the scores of the original texts, which no inflation of scale
moves. Both are measured on groups that no rule reads, without dropout. Differences are paired by
base model, batches, and topic or prompt; intervals are 95 % bootstraps over topics or prompts and
seeds at once. `seeds` is the lowest and the highest difference of a seed.
"""
_RUNNING = """
## Run it

```
export PYTHONPATH=tests
.venv/bin/python -m reproduction.metarm --scale {scale} --out tests/reproduction/metarm
```

A stopped run goes on where it was. `--only "fold0-*"` runs some cells; two processes share the
work if their patterns name different folds. `--report-only` makes this file anew.
"""


def write_report(out: Path, scale: Scale) -> None:
    """Write README.md.

    Args:
        out: folder with `cells`.
        scale: whose numbers are shown.

    Raises:
        DataError: a cell is damaged, or the file cannot be written.
    """
    collected = Collected(scale, Cells(out / "cells" / scale.name))
    lines = [_ABOUT, *_setting(collected), _DESIGN]
    if len(collected.seeds) >= 2:
        lines += [*_findings(collected), *_accuracy(collected), *_separation(collected)]
    else:
        lines.append("No numbers: fewer than two seeds are complete.")
    with replacing(out / "README.md") as file:
        file.write(
            ("\n".join([*lines, _RUNNING.format(scale=scale.name)]).rstrip() + "\n").encode()
        )


def _setting(collected: Collected) -> Iterator[str]:
    scale, recipe = collected.scale, collected.scale.recipe
    options = scale.rule_options("literal")
    minutes = sum(cell.cpu_minutes for cell in collected.run)
    yield (
        f"Scale `{scale.name}`: {len(collected.run)} of {collected.expected} cells, "
        f"{minutes:.1f} minutes of one core; {len(collected.seeds)} of {scale.seeds} seeds are "
        f"complete and shown, in {scale.folds} folds of topics. Base models: "
        f"`{recipe.backbone}`, the lowest {recipe.layers} layers, {recipe.trunk_layers} of them "
        f"frozen, adapters of rank {recipe.rank} on the rest; at most {scale.train_pairs:,} "
        f"labelled pairs, {recipe.epochs} epochs. Then {scale.steps} steps of "
        f"{scale.batch_pairs} pairs and {scale.batch_groups} groups, {options.optimizer}, alpha "
        f"{options.learning_rate:g}, eta {options.ascent_rate:g} ({options.ascent} of its own for "
        f"`literal`), lambda {options.joint_weight:g}; inputs of {recipe.train_tokens} "
        f"tokens. Start of the policy: `{START}`; its end: `{CHECKPOINTS[-1]}`."
    )


def _findings(collected: Collected) -> Iterator[str]:
    """What the default of the online trainer rests on."""
    gains = {
        (rule, meta): estimate(_over_vanilla(collected, Variant(rule=rule, meta=meta), _shifted))
        for meta in METAS
        for rule in RULES
    }
    (rule, meta), best = max(gains.items(), key=lambda item: item[1].value)
    sure = [f"`{rule}` on `{meta}`" for (rule, meta), gain in gains.items() if (gain.low or 0) > 0]
    yield "\n## What came out\n"
    yield (
        f"Highest shifted accuracy over vanilla continuation: `{rule}` on `{meta}`, "
        f"{_signed(best)}. "
        + (
            f"The lower bound is above 0 for {', '.join(sure)}."
            if sure
            else "No rule has a lower bound above 0: none is shown to beat vanilla continuation."
        )
    )


def _accuracy(collected: Collected) -> Iterator[str]:
    yield "\n## Accuracy\n"
    yield (
        "| rule | groups | shifted accuracy | over vanilla | seeds | original accuracy "
        "| over vanilla |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for variant in _rows():
        shifted, original = (collected.ranked(variant, part) for part in (_shifted, _original))
        cells = [_value(estimate(shifted)), "", "", _value(estimate(original)), ""]
        if variant != VANILLA:
            gain = _over_vanilla(collected, variant, _shifted)
            cells[1:3] = [_signed(estimate(gain)), _seeds(gain)]
            cells[4] = _signed(estimate(_over_vanilla(collected, variant, _original)))
        yield f"{_start(variant)} {' | '.join(cells)} |"


def _separation(collected: Collected) -> Iterator[str]:
    names = list(collected.result(NONE, collected.seeds[0], 0).separated)
    for title, values in (("J", _j), ("\\|d\\| / std", _relative)):
        yield f"\n## {title} of groups that no rule reads\n"
        yield f"| rule | groups | {' | '.join(f'{name} | over vanilla' for name in names)} |"
        yield f"| --- | --- |{' --- | --- |' * len(names)}"
        for variant in _rows():
            cells = []
            for name in names:
                measure = collected.separated(variant, name, values)
                vanilla = collected.separated(VANILLA, name, values)
                over = "" if variant == VANILLA else _signed(estimate(measure.minus(vanilla)))
                cells += [_value(estimate(measure)), over]
            yield f"{_start(variant)} {' | '.join(cells)} |"


def _rows() -> list[Variant]:
    return [NONE, VANILLA, *(Variant(rule=rule, meta=meta) for meta in METAS for rule in RULES)]


def _start(variant: Variant) -> str:
    meta: Meta | str = variant.meta or ""
    return f"| {variant.rule or 'none'} | {meta} |"


def _over_vanilla(collected: Collected, variant: Variant, part: object) -> Measure:
    chosen = _shifted if part is _shifted else _original
    return collected.ranked(variant, chosen).minus(collected.ranked(VANILLA, chosen))


def _shifted(result: Adapted) -> Ranked:
    return result.shifted


def _original(result: Adapted) -> Ranked:
    return result.original


def _j(separated: Separated) -> list[float]:
    return separated.separation


def _relative(separated: Separated) -> list[float]:
    return separated.difference


def _seeds(measure: Measure) -> str:
    means = measure.means
    return f"{means.min():+.3f} to {means.max():+.3f}"


def _value(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _signed(found: Estimate) -> str:
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
