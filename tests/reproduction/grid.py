"""How each cell of label noise is run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
from rich.console import Console

from reproduction.cells import Cell, Cells, digest
from reproduction.detection import detect
from reproduction.noise import Fold, make_fold
from reproduction.plan import Spec, config_digest, specs
from reproduction.recovery import recover
from reproduction.results import Detection, Recovery
from reproduction.runner import Runner
from reproduction.scales import Scale
from reproduction.training import Training
from reward_trainer.fit.trunk_cache import TrunkCache


class Grid(Runner[Spec, Detection | Recovery]):
    """Runs the cells of a scale.

    Args:
        scale: sizes.
        table: clean pairs with roots.
        cells: where results are kept.
        work: folder for what a cell leaves if it is stopped.
        device: `auto`, `cpu` or `cuda`.
        console: gets a line per cell.
    """

    def __init__(
        self,
        scale: Scale,
        table: datasets.Dataset,
        cells: Cells[Detection | Recovery],
        work: Path,
        device: str,
        console: Console,
    ) -> None:
        super().__init__(specs(scale), cells, console)
        self._scale, self._table = scale, table
        self._work, self._device = work, device
        self._trunk = TrunkCache(work / "trunk")
        self._folds: dict[tuple[float, int], Fold] = {}
        self._digests: dict[tuple[float, int], str] = {}

    def digests(self, spec: Spec) -> tuple[str, str]:
        return config_digest(self._scale, spec), self._data_digest(spec)

    def cell(self, spec: Spec) -> Cell[Detection | Recovery]:
        cell = super().cell(spec)
        shutil.rmtree(self._folder(spec), ignore_errors=True)
        return cell

    def work_of(self, spec: Spec) -> Callable[[], Detection | Recovery]:
        """What a cell does; the cells that it reads are run first, on their own time."""
        fold = self._fold(spec)
        training = Training(self._folder(spec), self._device, self._trunk)
        if spec.candidate is None:
            recipe, folds = self._scale.strength_recipe, self._scale.inner_folds
            return lambda: detect(fold.train, recipe, folds, training)
        recipe = self._scale.recipe(spec.candidate)
        strength = self._strength(spec) if recipe.objective.denoises else None
        return lambda: recover(fold, recipe, strength, training)

    def close(self) -> None:
        self._trunk.close()

    def _folder(self, spec: Spec) -> Path:
        return self._work / "-".join((spec.name, *self.digests(spec)))

    def _strength(self, spec: Spec) -> Detection:
        result = self.cell(spec.strength).result
        assert isinstance(result, Detection)
        return result

    def _fold(self, spec: Spec) -> Fold:
        key = spec.rate, spec.fold
        if key not in self._folds:
            self._folds[key] = make_fold(self._table, self._scale, *key)
        return self._folds[key]

    def _data_digest(self, spec: Spec) -> str:
        key = spec.rate, spec.fold
        if key not in self._digests:
            fold = self._fold(spec)
            self._digests[key] = digest(json.dumps([fold.train.to_dict(), fold.test.to_dict()]))
        return self._digests[key]
