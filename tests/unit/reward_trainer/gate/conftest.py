from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest

from reward_trainer.fit.pairs import Pair
from reward_trainer.gate.data import GateData


@dataclass(frozen=True)
class Samples:
    prompt: str
    completions: tuple[str, ...]


def worth(text: str) -> float:
    """What the labels go by, here: the share of `a` among the letters."""
    return text.count("a") / len(text)


def texts(random: Random, count: int) -> list[str]:
    """Texts of several lengths that have nothing to do with their worth."""
    return ["".join(random.choices("ab", k=random.randint(10, 40))) for _ in range(count)]


def labelled(prompt: str, random: Random) -> Pair:
    first, second = sorted(texts(random, 2), key=worth)
    while worth(first) == worth(second):
        first, second = sorted(texts(random, 2), key=worth)
    return Pair("", 1, "", prompt, second, first)


@pytest.fixture(scope="session")
def data() -> GateData:
    """1,500 pairs, 40 groups and a probe of 60 pairs, all labelled by `worth`."""
    random = Random(0)
    held = [labelled(f"question {i}", random) for i in range(1500)]
    probe = [labelled(f"recent {i}", random) for i in range(60)]
    groups = [Samples(f"sample {i}", tuple(texts(random, 4))) for i in range(40)]
    return GateData(held, groups, probe)
