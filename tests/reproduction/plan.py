"""Which cells a scale has, and what each depends on beside its data."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from reproduction.cells import digest
from reproduction.scales import Candidate, Scale
from reward_trainer.fit.recipe import Recipe

# Goes up when the same configuration would give other numbers.
_VERSION = 1
_DATA = {"sources", "roots", "train_pairs", "folds", "seed"}


@dataclass(frozen=True)
class Spec:
    """One cell: the strength of a training part, or what a candidate makes of that part."""

    rate: float
    fold: int
    candidate: Candidate | None = None

    @property
    def name(self) -> str:
        what = "strength" if self.candidate is None else self.candidate.file_name
        return f"rate{self.rate * 100:02.0f}-fold{self.fold}-{what}"

    @property
    def strength(self) -> Spec:
        """The cell with the strength of the same training part."""
        return replace(self, candidate=None)


def specs(scale: Scale) -> list[Spec]:
    """All cells, each after those that it needs."""
    return [
        Spec(rate, fold, candidate)
        for rate in scale.rates
        for fold in range(scale.folds)
        for candidate in (None, *(scale.candidates if rate in scale.trained_rates else ()))
    ]


def config_digest(scale: Scale, spec: Spec) -> str:
    """Equal for cells with the same result on the same files."""
    config: dict[str, Any] = {"version": _VERSION, "rate": spec.rate, "fold": spec.fold}
    config |= scale.model_dump(mode="json", include=_DATA)
    if spec.candidate is None:
        config["inner_folds"] = scale.inner_folds
        config["recipe"] = _training_of(scale.strength_recipe)
    else:
        recipe = scale.recipe(spec.candidate)
        config["recipe"] = _training_of(recipe)
        if recipe.objective.denoises:
            config["strength"] = config_digest(scale, spec.strength)
    return digest(json.dumps(config, sort_keys=True))


def _training_of(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"calibration_folds"})
