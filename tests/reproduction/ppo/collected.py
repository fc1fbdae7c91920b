"""The cells of a scale as curves of gain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ppo_worker.settings import RewardMode
from reproduction.cells import Cell, Cells, Optimised
from reproduction.ppo.scales import MODES, Scale, specs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One policy on its way; shape [measurements] each, gains in std of the base policy's scores.

    Attributes:
        seed: of the proxy and the policy.
        kl: to the base policy, nats.
        length: times the base policy's.
        proxy: gain by the model that it was trained with.
        gold: gain by the model that it never saw.
    """

    seed: int
    kl: Array
    length: Array
    proxy: Array
    gold: Array

    @classmethod
    def of(cls, seed: int, result: Optimised) -> Curve:
        """Of a cell."""
        means = np.array(result.gold).mean(axis=1)
        gold = (means - means[0]) / result.gold_std
        kl, length, proxy = map(np.array, (result.kl, result.length, result.proxy))
        return cls(seed, kl, length, proxy, gold)

    def at(self, kl: float) -> float:
        """Gold's gain where the KL first gets there; between measurements on a line."""
        after = int(np.argmax(self.kl >= kl))
        if after == 0:
            return float(self.gold[0])
        share = (kl - self.kl[after - 1]) / (self.kl[after] - self.kl[after - 1])
        return float(self.gold[after - 1] + share * (self.gold[after] - self.gold[after - 1]))


class Collected:
    """What was run of a scale.

    Args:
        scale: whose cells.
        cells: where they are.
    """

    def __init__(self, scale: Scale, cells: Cells) -> None:
        self.expected = len(list(specs(scale)))
        self._kept = [(s, cell) for s in specs(scale) if (cell := cells.read(s.name)) is not None]

    @property
    def cells(self) -> list[Cell]:
        return [cell for _, cell in self._kept]

    @cached_property
    def curves(self) -> dict[RewardMode, list[Curve]]:
        """By mode, of the seeds that were run in every mode."""
        found = {
            mode: {s.seed: Curve.of(s.seed, _optimised(c)) for s, c in self._kept if s.mode == mode}
            for mode in MODES
        }
        seeds = sorted(set.intersection(*(set(own) for own in found.values())))
        return {mode: [own[seed] for seed in seeds] for mode, own in found.items()}

    @property
    def seeds(self) -> list[int]:
        """Those that were run in every mode."""
        return [curve.seed for curve in self.curves[MODES[0]]]

    @property
    def prompts(self) -> int:
        """On which policies are measured."""
        return len(_optimised(self.cells[0]).prompts)

    @property
    def shared_kl(self) -> float:
        """The highest KL that every policy got to."""
        return min(float(curve.kl.max()) for own in self.curves.values() for curve in own)


def _optimised(cell: Cell) -> Optimised:
    assert isinstance(cell.result, Optimised)
    return cell.result
