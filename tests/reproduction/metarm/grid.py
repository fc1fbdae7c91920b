"""The cells of a scale and how each is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console

from assay.errors import DataError
from reproduction.cells import Adapted, Cells
from reproduction.metarm.data import Data, Fold, make_fold
from reproduction.metarm.measuring import measure
from reproduction.metarm.models import Bench, Model, adapt
from reproduction.metarm.scales import VARIANTS, Scale, Variant
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
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _options(scale: Scale, spec: Spec) -> object:
    assert spec.variant.rule is not None
    return scale.rule_options(spec.variant.rule).model_dump(mode="json")


class Grid:
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
        self, scale: Scale, data: Data, cells: Cells, work: Path, device: str, console: Console
    ) -> None:
        self._scale, self._cells, self._console = scale, cells, console
        self._bench = Bench(scale, work, device, TrunkCache(work / "trunk"))
        self._last: tuple[tuple[int, int], Model] | None = None
        self._folds = [make_fold(data, scale, fold) for fold in range(scale.folds)]

    def run(self, only: Sequence[str] = ()) -> None:
        """Run the cells that are missing or were run with another configuration.

        Args:
            only: shell patterns of their names; none = all.

        Raises:
            DataError: no cell has such a name, or a cell cannot be run or written.
        """
        every = list(specs(self._scale))
        wanted = [s for s in every if not only or any(fnmatch(s.name, p) for p in only)]
        if not wanted:
            raise DataError(f"no cell is called {' or '.join(only)}; {every[0].name} is one")
        try:
            for number, spec in enumerate(wanted, start=1):
                minutes = self._run(spec)
                self._console.print(f"{number} of {len(wanted)}: {spec.name}, {minutes:.2f} min")
        finally:
            self._bench.trunk.close()

    def _run(self, spec: Spec) -> float:
        fold = self._folds[spec.fold]
        config, data = config_digest(self._scale, spec), _data_digest(fold)
        kept = self._cells.read(spec.name)
        if kept is not None and (kept.config, kept.data) == (config, data):
            return kept.minutes
        return self._cells.run(spec.name, config, data, lambda: self._work(spec)).minutes

    def _work(self, spec: Spec) -> Adapted:
        fold, model = self._folds[spec.fold], self._model(spec)
        model.reset()
        adapt(model, self._bench, fold, spec.variant, spec.seed)
        return measure(model, fold)

    def _model(self, spec: Spec) -> Model:
        """The base model; that of the last cell is kept."""
        key = spec.fold, spec.seed
        if self._last is None or self._last[0] != key:
            self._last = key, Model(self._bench, self._folds[spec.fold], spec.seed)
        return self._last[1]


def _data_digest(fold: Fold) -> str:
    pairs = [pair.key for part in (fold.train, fold.original, fold.shifted) for pair in part]
    rows = json.dumps([pairs, {**fold.meta}, {**fold.measured}])
    return hashlib.sha256(rows.encode()).hexdigest()[:16]
