"""A scale's cells as a report needs them: by rate, those of another configuration left out."""

from __future__ import annotations

from collections.abc import Iterable

from reproduction.cells import Cells
from reproduction.plan import Spec, config_digest, specs
from reproduction.results import Detection, NoiseCell, Recovery
from reproduction.scales import BASELINE, Candidate, Scale


class Collected:
    """The cells that were run.

    Args:
        scale: which there should be.
        cells: where they are.

    Raises:
        DataError: a file is damaged.
    """

    def __init__(self, scale: Scale, cells: Cells[Detection | Recovery]) -> None:
        self.scale = scale
        self.specs = specs(scale)
        self._cells: dict[str, NoiseCell] = {}
        for spec in self.specs:
            cell = cells.read(spec.name)
            if cell is not None and cell.config == config_digest(scale, spec):
                self._cells[spec.name] = cell

    @property
    def run(self) -> list[NoiseCell]:
        return list(self._cells.values())

    def count(self, rate: float, candidate: Candidate | None) -> int:
        """In how many folds a cell was run."""
        return len(list(self._results(rate, candidate)))

    def detections(self, rate: float) -> list[Detection]:
        """Strength in each fold, as far as it was measured."""
        return [r for r in self._results(rate, None) if isinstance(r, Detection)]

    def recoveries(self, rate: float) -> dict[str, list[Recovery]]:
        """What each candidate that was run in all folds makes of a rate, by its name."""
        found = {}
        for candidate in self.scale.candidates:
            results = [r for r in self._results(rate, candidate) if isinstance(r, Recovery)]
            if len(results) == self.scale.folds:
                found[candidate.name] = results
        return found

    def clean(self) -> list[Recovery] | None:
        """Bradley-Terry without noise in all folds."""
        return self.recoveries(0.0).get(BASELINE)

    def _results(self, rate: float, candidate: Candidate | None) -> Iterable[Detection | Recovery]:
        for fold in range(self.scale.folds):
            cell = self._cells.get(Spec(rate, fold, candidate).name)
            if cell is not None:
                yield cell.result
