"""Train, dev and test parts by conversation root, never by row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from assay.errors import DataError
from assay.schemas.text import prompt_digest
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import Recipe

Part = Literal["train", "dev", "test"]
# Shares of so few roots would vary: they are counted out instead.
_FEW_ROOTS = 60


@dataclass(frozen=True)
class Split:
    """The pairs of each part; `evaluation` holds the sources that are never trained on."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    evaluation: list[Pair]


def position(salt: str, text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    digest = hashlib.sha256(f"{salt}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_by_root(pairs: Sequence[Pair], recipe: Recipe) -> Split:
    """Put every root, whatever the sources it occurs in, into one part.

    A root's part follows from its digest. Roots of evaluation sources go to test. Sources with
    `held_out` give that many of their roots to dev and test, and a table with few roots its shares
    in whole numbers.

    Raises:
        DataError: there are too few roots for three parts.
    """
    evaluated = {source.name for source in recipe.sources if source.use == "evaluate"}
    evaluation = [pair for pair in pairs if pair.source in evaluated]
    reserved = {pair.root for pair in evaluation}
    counted = _counted_roots(pairs, recipe)
    parts: dict[Part, list[Pair]] = {"train": [], "dev": [], "test": []}
    for pair in pairs:
        if pair.source not in evaluated:
            parts[_part(pair.root, reserved, counted, recipe)].append(pair)
    split = Split(**parts, evaluation=_without_repeated_prompts(evaluation))
    check_disjoint(split)
    return split


def check_disjoint(split: Split) -> None:
    """No root that is measured on is trained on, and dev shares none with the rest.

    Raises:
        DataError: a root is in two parts.
    """
    train, dev, test, evaluation = (
        {pair.root for pair in pairs}
        for pairs in (split.train, split.dev, split.test, split.evaluation)
    )
    shared = (train & (dev | test | evaluation)) | (dev & (test | evaluation))
    if shared:
        raise DataError(f"{len(shared)} conversation roots are in two parts of the split")


def _part(root: str, reserved: set[str], counted: Mapping[str, Part], recipe: Recipe) -> Part:
    if root in reserved:
        return "test"
    if root in counted:
        return counted[root]
    place = position(recipe.split_salt, root)
    if place < recipe.test_share:
        return "test"
    return "dev" if place < recipe.test_share + recipe.dev_share else "train"


def _counted_roots(pairs: Sequence[Pair], recipe: Recipe) -> dict[str, Part]:
    if not recipe.sources:
        return _few_roots({pair.root for pair in pairs}, recipe)
    parts: dict[str, Part] = {}
    for source in recipe.sources:
        if source.held_out is not None:
            roots = {pair.root for pair in pairs if pair.source == source.name}
            parts |= _count_out(roots, source.held_out, recipe.split_salt)
    return parts


def _few_roots(roots: set[str], recipe: Recipe) -> dict[str, Part]:
    if len(roots) < 3:
        raise DataError(
            f"{len(roots)} conversation roots, and train, dev and test need one each: group the "
            "rows by something else (--group prompt, or a column)"
        )
    if len(roots) > _FEW_ROOTS:
        return {}
    dev, test = (
        max(1, round(share * len(roots))) for share in (recipe.dev_share, recipe.test_share)
    )
    return _count_out(roots, (dev, test), recipe.split_salt)


def _count_out(roots: set[str], held_out: tuple[int, int], salt: str) -> dict[str, Part]:
    ordered = sorted(roots, key=lambda root: position(salt, root))
    dev, test = held_out
    parts: dict[str, Part] = dict.fromkeys(ordered, "train")
    parts |= dict.fromkeys(ordered[:test], "test")
    parts |= dict.fromkeys(ordered[test : test + dev], "dev")
    return parts


def _without_repeated_prompts(pairs: Sequence[Pair]) -> list[Pair]:
    """Of a prompt that several evaluation sources share, only the first source's pairs."""
    first: dict[str, str] = {}
    for pair in pairs:
        first.setdefault(prompt_digest(pair.prompt), pair.source)
    return [pair for pair in pairs if first[prompt_digest(pair.prompt)] == pair.source]
