"""What a candidate is judged on, none of which any version of the lineage is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from assay.errors import InvalidInputError
from assay.schemas.text import Completion, Prompt, prompt_digest
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import SPLIT_SALT
from reward_trainer.fit.splits import position

HELD_SHARE = 0.15
_HELD_GROUPS = 0.10
_FEW_ROOTS = 60  # shares of so few would vary: they are counted out instead


class Group(Protocol):
    """A prompt with two or more completions of a policy."""

    @property
    def prompt(self) -> Prompt: ...

    @property
    def completions(self) -> Sequence[Completion]: ...


class HeldOut(NamedTuple):
    """Preference pairs to train on, and pairs to judge by."""

    train: list[Pair]
    held: list[Pair]


@dataclass(frozen=True)
class GateData:
    """The evidence of one gate.

    Attributes:
        held: labelled pairs that are held out.
        groups: policy samples that are held out, of any number of completions from 2 up.
        probe: labelled recent samples; none = the shift stays unverified.
        probe_trained: how many were left out of the probe, since their prompts are trained on.
        groups_trained: how many groups were not held out.

    Raises:
        InvalidInputError: a group has fewer than two completions.
    """

    held: Sequence[Pair]
    groups: Sequence[Group]
    probe: Sequence[Pair] = ()
    probe_trained: int = 0
    groups_trained: int = 0

    def __post_init__(self) -> None:
        for index, group in enumerate(self.groups):
            if len(group.completions) < 2:
                raise InvalidInputError(
                    f"held-out group {index + 1} has {len(group.completions)} completions, and a "
                    "difference needs two"
                )


def held_out(
    pairs: Sequence[Pair], probe: Sequence[Pair] = (), share: float = HELD_SHARE
) -> HeldOut:
    """Divide preference pairs by the hash of their conversation root.

    A root's part follows from its text alone, so that no restart, and no pair that comes later,
    moves another pair from one part to the other. A few roots are counted out by rank of their
    hash. The roots are among those that `assay fit` does not train on. Pairs that share a root with
    the probe are never trained on, and those whose prompt's groups are held out are in no part.

    Args:
        pairs: with their roots; an empty root stands for the pair's prompt.
        probe: labelled recent samples.
        share: of the roots that are held out, between 0 and 1.
    """
    roots = [cluster_of(pair) for pair in pairs]
    held = _held_roots(set(roots), share) | {cluster_of(pair) for pair in probe}
    parts = HeldOut([], [])
    for pair, root in zip(pairs, roots, strict=True):
        if root in held:
            parts.held.append(pair)
        elif not is_held_group(pair.prompt):
            parts.train.append(pair)
    return parts


def is_held_group(prompt: Prompt) -> bool:
    """Whether groups of a prompt, one prompt in ten by hash, are kept from training.

    It goes by the whole prompt: all that are made from one template may have the same root.
    """
    return position(SPLIT_SALT, prompt_digest(prompt)) < _HELD_GROUPS


def cluster_of(pair: Pair) -> str:
    """What hangs together with a pair: its root, or its prompt if it has none."""
    return pair.root or prompt_digest(pair.prompt)


def _held_roots(roots: set[str], share: float) -> set[str]:
    if len(roots) > _FEW_ROOTS:
        return {root for root in roots if position(SPLIT_SALT, root) < share}
    ordered = sorted(roots, key=lambda root: position(SPLIT_SALT, root))
    return set(ordered[: round(share * len(roots))])
