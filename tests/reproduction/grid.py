"""The cells of a scale and how each is run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import datasets
from rich.console import Console

from assay.errors import DataError
from reproduction.cells import Cell, Cells, Detection, Recovery
from reproduction.detection import detect
from reproduction.noise import Fold, make_fold
from reproduction.plan import Spec, config_digest, specs
from reproduction.recovery import recover
from reproduction.scales import Scale
from reproduction.training import Training
from reward_trainer.fit.trunk_cache import TrunkCache


class Grid:
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
        cells: Cells,
        work: Path,
        device: str,
        console: Console,
    ) -> None:
        self._scale, self._table, self._cells = scale, table, cells
        self._work, self._device, self._console = work, device, console
        self._trunk = TrunkCache(work / "trunk")
        self._folds: dict[tuple[float, int], Fold] = {}
        self._digests: dict[tuple[float, int], str] = {}

    def run(self, only: Sequence[str] = ()) -> None:
        """Run the cells that are missing or were run with another configuration.

        Args:
            only: shell patterns of their names; none = all.

        Raises:
            DataError: no cell has such a name, or a cell cannot be run or written.
        """
        wanted = [
            spec
            for spec in specs(self._scale)
            if not only or any(fnmatch(spec.name, pattern) for pattern in only)
        ]
        if not wanted:
            example = specs(self._scale)[0].name
            raise DataError(f"no cell is called {' or '.join(only)}; {example} is one")
        try:
            for number, spec in enumerate(wanted, start=1):
                cell = self._cell(spec)
                spent = f"{cell.minutes:.1f} min" if cell.minutes >= 0.1 else "under 0.1 min"
                self._console.print(f"{number} of {len(wanted)}: {spec.name}, {spent}")
        finally:
            self._trunk.close()

    def _cell(self, spec: Spec) -> Cell:
        config, data = config_digest(self._scale, spec), self._data_digest(spec)
        kept = self._cells.read(spec.name)
        if kept is not None and (kept.config, kept.data) == (config, data):
            return kept
        folder = self._work / f"{spec.name}-{config}-{data}"
        cell = self._cells.run(spec.name, config, data, self._work_of(spec, folder))
        shutil.rmtree(folder, ignore_errors=True)
        return cell

    def _work_of(self, spec: Spec, folder: Path) -> Callable[[], Detection | Recovery]:
        """What a cell does; the cells that it reads are run first, on their own time."""
        fold, training = self._fold(spec), Training(folder, self._device, self._trunk)
        if spec.candidate is None:
            recipe, folds = self._scale.strength_recipe, self._scale.inner_folds
            return lambda: detect(fold.train, recipe, folds, training)
        recipe = self._scale.recipe(spec.candidate)
        strength = self._strength(spec) if recipe.objective.denoises else None
        return lambda: recover(fold, recipe, strength, training)

    def _strength(self, spec: Spec) -> Detection:
        result = self._cell(spec.strength).result
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
            rows = json.dumps([fold.train.to_dict(), fold.test.to_dict()])
            self._digests[key] = hashlib.sha256(rows.encode()).hexdigest()[:16]
        return self._digests[key]
