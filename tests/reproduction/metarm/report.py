"""README.md, made from the cells that were run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from reproduction.cells import Cells
from reproduction.metarm.collected import Collected
from reproduction.metarm.data import CHECKPOINTS, END_GROUPS, START, TOPIC_GROUPS
from reproduction.metarm.estimates import Measure, estimate
from reproduction.metarm.results import Adapted, AdaptedCell, Ranked, Separated
from reproduction.metarm.scales import NONE, VANILLA, VARIANTS, Scale, Variant
from reproduction.runner import how_to_run
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
UPDATED = [variant for variant in VARIANTS if variant not in (NONE, VANILLA)]


def write_report(out: Path, scale: Scale) -> None:
    """Write README.md.

    Args:
        out: folder with `cells`.
        scale: whose numbers are shown.

    Raises:
        DataError: a cell is damaged, or the file cannot be written.
    """
    collected = Collected(scale, Cells(out / "cells" / scale.name, AdaptedCell))
    lines = [_ABOUT, *_setting(collected), _DESIGN]
    if len(collected.seeds) == 1:
        lines.append("One seed is complete: the intervals hold no spread over seeds.")
    if collected.seeds:
        lines += [*_findings(collected), *_accuracy(collected), *_separation(collected)]
    else:
        lines.append("No numbers: no seed is complete.")
    lines.append(how_to_run("metarm", scale.name, "fold"))
    with replacing(out / "README.md") as file:
        file.write(("\n".join(lines).rstrip() + "\n").encode())


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
    gains = {v: estimate(_ranked_over_vanilla(collected, v, _shifted)) for v in UPDATED}
    best = max(gains, key=lambda variant: gains[variant].value)
    yield "\n## What came out\n"
    yield (
        f"- Highest shifted accuracy over vanilla continuation: {_called(best)}, "
        f"{_signed(gains[best])}. {len(gains)} comparisons, none of them corrected for that."
    )
    originals = {v: estimate(_ranked_over_vanilla(collected, v, _original)) for v in UPDATED}
    yield f"- Shifted accuracy beside vanilla: {_told_apart(gains)}."
    yield f"- Original accuracy beside vanilla: {_told_apart(originals)}."
    for title, values in (("J", _j), ("|d| / std", _relative)):
        for name in (END_GROUPS, TOPIC_GROUPS):
            moved = {
                v: estimate(_separated_over_vanilla(collected, v, name, values)) for v in UPDATED
            }
            yield f"- {title} on `{name}` beside vanilla: {_told_apart(moved)}."


def _told_apart(found: Mapping[Variant, Estimate]) -> str:
    """Which rules' intervals lie on one side of 0."""
    up = [_called(v) for v, e in found.items() if e.low is not None and e.low > 0]
    down = [_called(v) for v, e in found.items() if e.high is not None and e.high < 0]
    parts = [
        f"{word} under {', '.join(names)}"
        for word, names in (("higher", up), ("lower", down))
        if names
    ]
    rest = len(found) - len(up) - len(down)
    if rest:
        parts.append(f"not told apart under {'the other ' if parts else 'all '}{rest}")
    return "; ".join(parts)


def _called(variant: Variant) -> str:
    return f"`{variant.rule}` on `{variant.meta}`"


def _accuracy(collected: Collected) -> Iterator[str]:
    yield "\n## Accuracy\n"
    yield (
        "| rule | groups | shifted accuracy | over vanilla | seeds | original accuracy "
        "| over vanilla |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for variant in VARIANTS:
        shifted, original = (collected.ranked(variant, part) for part in (_shifted, _original))
        cells = [_value(estimate(shifted)), "", "", _value(estimate(original)), ""]
        if variant != VANILLA:
            gain = _ranked_over_vanilla(collected, variant, _shifted)
            cells[1:3] = [_signed(estimate(gain)), _seeds(gain)]
            cells[4] = _signed(estimate(_ranked_over_vanilla(collected, variant, _original)))
        yield f"{_start(variant)} {' | '.join(cells)} |"


def _separation(collected: Collected) -> Iterator[str]:
    names = list(collected.result(NONE, collected.seeds[0], 0).separated)
    for title, values in (("J", _j), ("\\|d\\| / std", _relative)):
        yield f"\n## {title} of groups that no rule reads\n"
        yield f"| rule | groups | {' | '.join(f'{name} | over vanilla' for name in names)} |"
        yield f"| --- | --- |{' --- | --- |' * len(names)}"
        for variant in VARIANTS:
            cells = []
            for name in names:
                gain = _separated_over_vanilla(collected, variant, name, values)
                over = "" if variant == VANILLA else _signed(estimate(gain))
                cells += [_value(estimate(collected.separated(variant, name, values))), over]
            yield f"{_start(variant)} {' | '.join(cells)} |"


def _start(variant: Variant) -> str:
    return f"| {variant.rule or 'none'} | {variant.meta or ''} |"


def _ranked_over_vanilla(
    collected: Collected, variant: Variant, part: Callable[[Adapted], Ranked]
) -> Measure:
    return collected.ranked(variant, part).minus(collected.ranked(VANILLA, part))


def _separated_over_vanilla(
    collected: Collected, variant: Variant, name: str, values: Callable[[Separated], list[float]]
) -> Measure:
    vanilla = collected.separated(VANILLA, name, values)
    return collected.separated(variant, name, values).minus(vanilla)


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
