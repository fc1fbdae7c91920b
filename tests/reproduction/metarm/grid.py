"""The cells of a scale and how each is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from reproduction.cells import Cells, digest
from reproduction.metarm.data import Data, Fold, make_fold
from reproduction.metarm.measuring import measure
from reproduction.metarm.models import Bench, Model, adapt
from reproduction.metarm.results import Adapted
from reproduction.metarm.scales import VARIANTS, Scale, Variant
from reproduction.runner import Runner
from reward_trainer.fit.trunk_cache import TrunkCache

# Goes up when the same configuration would give other numbers.
_VERSION = 1


@dataclass(frozen=True)
class Spec:
    """One cell: a base model and how it went on."""

    fold: int
    seed: int
    variant: Variant

    @property
    def name(self) -> str:
        return f"fold{self.fold}-seed{self.seed}-{self.variant.name}"


def specs(scale: Scale) -> Iterator[Spec]:
    """All cells, a seed's in all folds before the next seed's."""
    for seed in range(scale.seeds):
        for fold in range(scale.folds):
            for variant in VARIANTS:
                yield Spec(fold, seed, variant)


def config_digest(scale: Scale, spec: Spec) -> str:
    """Equal for cells with the same result on the same files."""
    config = {
        "version": _VERSION,
        "cell": spec.name,
        "scale": scale.model_dump(mode="json", exclude={"seeds"}),
        "recipe": scale.recipe.model_dump(mode="json"),
        "rule": None if spec.variant.rule is None else _options(scale, spec),
    }
    return digest(json.dumps(config, sort_keys=True))


def _options(scale: Scale, spec: Spec) -> object:
    assert spec.variant.rule is not None
    return scale.rule_options(spec.variant.rule).model_dump(mode="json")


class Grid(Runner[Spec, Adapted]):
    """Runs the cells of a scale.

    Args:
        scale: sizes.
        data: the files.
        cells: where results are kept.
        work: folder for base models, which a stopped run finds again.
        device: `auto`, `cpu` or `cuda`.
        console: gets a line per cell.
    """

    def __init__(
        self,
        scale: Scale,
        data: Data,
        cells: Cells[Adapted],
        work: Path,
        device: str,
        console: Console,
    ) -> None:
        super().__init__(list(specs(scale)), cells, console)
        self._scale = scale
        self._bench = Bench(scale, work, device, TrunkCache(work / "trunk"))
        self._last: tuple[tuple[int, int], Model] | None = None
        self._folds = [make_fold(data, scale, fold) for fold in range(scale.folds)]

    def digests(self, spec: Spec) -> tuple[str, str]:
        return config_digest(self._scale, spec), _data_digest(self._folds[spec.fold])

    def work_of(self, spec: Spec) -> Callable[[], Adapted]:
        def work() -> Adapted:
            fold, model = self._folds[spec.fold], self._model(spec)
            model.reset()
            adapt(model, self._bench, fold, spec.variant, spec.seed)
            return measure(model, fold)

        return work

    def close(self) -> None:
        self._bench.trunk.close()

    def _model(self, spec: Spec) -> Model:
        """The base model; that of the last cell is kept."""
        key = spec.fold, spec.seed
        if self._last is None or self._last[0] != key:
            self._last = key, Model(self._bench, self._folds[spec.fold], spec.seed)
        return self._last[1]


def _data_digest(fold: Fold) -> str:
    pairs = [pair.key for part in (fold.train, fold.original, fold.shifted) for pair in part]
    return digest(json.dumps([pairs, {**fold.meta}, {**fold.measured}]))
