"""The cells of a scale as the report needs them: by variant, measures over all models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from reproduction.cells import Cells
from reproduction.metarm.estimates import Measure
from reproduction.metarm.grid import config_digest, specs
from reproduction.metarm.results import Adapted, AdaptedCell, Ranked, Separated
from reproduction.metarm.scales import VARIANTS, Scale, Variant

Table = Sequence[tuple[str, float, float]]
"""Cluster, sum, count."""


class Collected:
    """What was run, of seeds that are complete: every variant in every fold.

    Args:
        scale: which cells there should be.
        cells: where they are.

    Raises:
        DataError: a file is damaged.
    """

    def __init__(self, scale: Scale, cells: Cells[Adapted]) -> None:
        self.scale = scale
        self.expected = 0
        found: dict[tuple[int, int, str], AdaptedCell] = {}
        for spec in specs(scale):
            self.expected += 1
            cell = cells.read(spec.name)
            if cell is not None and cell.config == config_digest(scale, spec):
                found[spec.seed, spec.fold, spec.variant.name] = cell
        self.run = list(found.values())
        self._results = {key: cell.result for key, cell in found.items()}
        names = [variant.name for variant in VARIANTS]
        self.seeds = [
            seed
            for seed in range(scale.seeds)
            if all((seed, f, name) in found for f in range(scale.folds) for name in names)
        ]

    def result(self, variant: Variant, seed: int, fold: int) -> Adapted:
        return self._results[seed, fold, variant.name]

    def ranked(self, variant: Variant, part: Callable[[Adapted], Ranked]) -> Measure:
        """Pairs ranked right; one model a seed, each topic in the fold or folds that have it."""
        return self._measure(variant, lambda result: _ranked_rows(part(result)))

    def separated(
        self, variant: Variant, name: str, values: Callable[[Separated], list[float]]
    ) -> Measure:
        """J or relative differences of a set of groups."""

        def rows(result: Adapted) -> Table:
            found = result.separated[name]
            return list(zip(found.clusters, values(found), found.groups, strict=True))

        return self._measure(variant, rows)

    def _measure(self, variant: Variant, rows: Callable[[Adapted], Table]) -> Measure:
        models = [
            _summed(rows(self.result(variant, seed, fold)) for fold in range(self.scale.folds))
            for seed in self.seeds
        ]
        clusters = sorted(models[0])
        sums = np.array([[model[name][0] for name in clusters] for model in models])
        counts = np.array([models[0][name][1] for name in clusters])
        return Measure(tuple(clusters), sums, counts)


def _ranked_rows(ranked: Ranked) -> Table:
    return list(zip(ranked.topics, ranked.right, ranked.pairs, strict=True))


def _summed(tables: Iterable[Table]) -> dict[str, tuple[float, float]]:
    """Sum and count of each cluster over the folds."""
    found: dict[str, tuple[float, float]] = {}
    for table in tables:
        for name, value, count in table:
            before = found.get(name, (0.0, 0.0))
            found[name] = before[0] + value, before[1] + count
    return found
