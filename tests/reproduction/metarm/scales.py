"""What is run: rules, groups that they separate, and sizes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from reward_trainer.fit.recipe import Recipe, load_recipe
from reward_trainer.online.rules import RuleName, RuleOptions

Meta = Literal["policy", "topics"]
METAS: tuple[Meta, ...] = ("policy", "topics")


class Variant(BaseModel):
    """One way to go on from a trained model.

    `rule` None = no update. Vanilla continuation reads no groups.
    """

    model_config = ConfigDict(frozen=True)

    rule: RuleName | None
    meta: Meta | None = None

    @property
    def name(self) -> str:
        return "-".join(part for part in (self.rule or "none", self.meta) if part)


NONE, VANILLA = Variant(rule=None), Variant(rule="vanilla")
RULES: tuple[RuleName, ...] = ("literal", "shared_moments", "joint")
VARIANTS = (NONE, VANILLA, *(Variant(rule=rule, meta=meta) for meta in METAS for rule in RULES))


class Scale(BaseModel):
    """One size of the grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    folds: int = Field(description="Each topic is unseen in one.")
    seeds: int = Field(ge=2, description="Models and orders of batches in each fold.")
    train_pairs: int = Field(description="Labelled pairs of the seen topics, at most.")
    steps: int = Field(description="Updates after the base training.")
    batch_pairs: int
    batch_groups: int
    k: int = Field(ge=2, description="Completions of a group of arguments.")
    eval_prompts: int = Field(description="Prompts whose samples are measured, never trained on.")
    options: dict[str, Any] = Field(description="Of every rule: rates, optimizer.")
    training: dict[str, Any] = Field(description="Of the base models, by the recipe bt.")

    @property
    def recipe(self) -> Recipe:
        """How base models are trained."""
        return load_recipe("bt", self.training)

    def rule_options(self, rule: RuleName) -> RuleOptions:
        """Numbers of a rule."""
        return RuleOptions(rule=rule, **self.options)


_SMALL: dict[str, Any] = {
    "layers": 4,
    "trunk_layers": 3,
    "pool": "mean",
    "train_tokens": 128,
    "max_tokens": 128,
    "dropout": 0.1,
    "learning_rate": 1e-3,
    "epochs": 6,
    "step_tokens": 2000,
}

SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="smoke",
            folds=2,
            seeds=2,
            train_pairs=60,
            steps=2,
            batch_pairs=4,
            batch_groups=2,
            k=3,
            eval_prompts=3,
            options={"learning_rate": 3e-4, "ascent_rate": 3e-4, "ascent": "adamw"},
            training={**_SMALL, "train_tokens": 32, "max_tokens": 32, "epochs": 1},
        ),
        Scale(
            name="cpu",
            folds=2,
            seeds=3,
            train_pairs=1600,
            steps=32,
            batch_pairs=8,
            batch_groups=3,
            k=5,
            eval_prompts=24,
            options={
                "learning_rate": 3e-4,
                "ascent_rate": 3e-4,
                "ascent": "adamw",
                "joint_weight": 0.5,
            },
            training=_SMALL,
        ),
    )
}
