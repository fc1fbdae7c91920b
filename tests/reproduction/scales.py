"""What is run: the same grid at three sizes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from reward_trainer.fit.recipe import Recipe, load_recipe

BASELINE = "bt"
ARGUMENTS = "ukpconvarg1_strict"


class Candidate(BaseModel):
    """One way to train with noisy labels.

    A family with several candidates has a threshold to choose.
    """

    model_config = ConfigDict(frozen=True)

    family: str = Field(description="A recipe of `assay fit`.")
    threshold: str = Field(default="", description="How tables name the changes.")
    changes: dict[str, Any] = Field(default={}, description="Of the recipe's objective.")

    @property
    def name(self) -> str:
        return f"{self.family} {self.threshold}".strip()

    @property
    def file_name(self) -> str:
        return self.name.replace(" ", "_")


class Scale(BaseModel):
    """One size of the grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sources: tuple[str, ...] = Field(description="Files of pairs, as the default recipe has them.")
    roots: int | None = Field(default=None, description="How many take part; None = all.")
    train_pairs: int | None = Field(description="In each training part; None = all.")
    rates: tuple[float, ...] = Field(description="Shares of labels to flip and to find.")
    trained_rates: tuple[float, ...] = Field(description="Those at which recipes are trained too.")
    folds: int = Field(description="Each root is held out once.")
    inner_folds: int = Field(description="Of a training part, to cross-fit strength.")
    members: int = Field(description="Of the ensembles that measure strength.")
    seeds: int = Field(ge=2, description="Models by each recipe.")
    candidates: tuple[Candidate, ...]
    training: dict[str, Any] = Field(description="Changes to every recipe.")
    seed: int = 0

    @property
    def strength_recipe(self) -> Recipe:
        """How the ensembles are trained."""
        return load_recipe(BASELINE, {**self.training, "members": self.members})

    def recipe(self, candidate: Candidate) -> Recipe:
        """How a candidate's models are trained."""
        changes = {**self.training, **candidate.changes, "members": self.seeds}
        return load_recipe(candidate.family, changes)


def _flips(family: str, *shares: float) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(family=family, threshold=f"{share:g}", changes={"flip": share})
        for share in shares
    )


_BT, _MARGIN = Candidate(family=BASELINE), Candidate(family="margin")
_SOFT = (
    Candidate(family="soft_margin", threshold="negative"),
    Candidate(family="soft_margin", threshold="all", changes={"smoothing": "strength"}),
)
# The paper's share, and about every pair of negative strength whatever the noise.
_SHARES = (0.1, 0.5)
_CANDIDATES = (
    _BT,
    *_flips("flip", *_SHARES),
    _MARGIN,
    *_flips("flip_margin", *_SHARES),
    *_SOFT,
)
_SMALL: dict[str, Any] = {
    "layers": 5,
    "trunk_layers": 3,
    "pool": "mean",
    "train_tokens": 128,
    "max_tokens": 256,
    "dropout": 0.1,
    "learning_rate": 3e-3,
    "epochs": 1,
    "step_tokens": 2000,
    "precision": "bf16",
}

SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="smoke",
            sources=(ARGUMENTS,),
            roots=4,
            train_pairs=200,
            rates=(0.0, 0.4),
            trained_rates=(0.0, 0.4),
            folds=2,
            inner_folds=2,
            members=2,
            seeds=2,
            candidates=(_BT, *_flips("flip", 0.1, 0.5), _MARGIN),
            training={**_SMALL, "train_tokens": 48, "max_tokens": 64},
        ),
        Scale(
            name="cpu",
            sources=(ARGUMENTS,),
            train_pairs=2000,
            rates=(0.0, 0.4, 0.25),
            trained_rates=(0.0, 0.4),
            folds=3,
            inner_folds=3,
            members=5,
            seeds=4,
            candidates=_CANDIDATES,
            training=_SMALL,
        ),
        Scale(
            name="gpu",
            sources=tuple(source.name for source in load_recipe("default").sources),
            train_pairs=None,
            rates=(0.0, 0.25, 0.4),
            trained_rates=(0.0, 0.25, 0.4),
            folds=5,
            inner_folds=5,
            members=10,
            seeds=5,
            candidates=_CANDIDATES,
            training={
                "backbone": "Qwen/Qwen3-1.7B-Base",
                "train_tokens": 1024,
                "max_tokens": 1024,
                "learning_rate": 1e-4,
                "epochs": 1,
                "step_tokens": 16000,
                "precision": "bf16",
            },
        ),
    )
}
