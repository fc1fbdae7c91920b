"""Training recipes: versioned TOML files beside this module, or a user's own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assay.errors import DataError

RECIPES = Path(__file__).parent / "recipes"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Frozen):
    """One file of preference pairs."""

    name: str = Field(description="File name without .jsonl or .jsonl.gz.")
    root: Literal["topic", "turn", "instruction", "chat"] = Field(
        description="What the conversation root of a row is; see `root_of`."
    )
    use: Literal["train", "evaluate"] = "train"
    passes: int = Field(default=1, ge=1, description="How often an epoch goes over its texts.")
    held_out: tuple[int, int] | None = Field(
        default=None, description="Roots for dev and test; None = shares of all roots."
    )
    credit: str = Field(default="", description="Origin and licence.")


class Recipe(_Frozen):
    """Everything that a trained ensemble depends on but the data."""

    name: str
    version: int = Field(ge=1, description="Goes up with every change of the recipe.")
    model: str = Field(description="Name under which the trained model is saved.")
    backbone: str = Field(description="`package:NAME/FOLDER`, a hub id, or a path.")
    seed: int = Field(ge=0, description="Member i starts from `seed + i`.")
    members: int = Field(ge=2)
    trunk_layers: int = Field(ge=1, description="Lowest layers, which stay as they are.")
    layers: int | None = Field(
        default=None, ge=2, description="Lowest layers of the backbone that are kept; None = all."
    )
    pool: Literal["model", "mean"] = Field(
        default="model", description="`mean`: the head reads the mean of all tokens."
    )
    rank: int = Field(ge=1, description="Rank of the adapters in the layers above the trunk.")
    alpha: int = Field(gt=0, description="Adapters are scaled by alpha / rank.")
    max_tokens: int = Field(ge=8, description="Longest input when the model is used.")
    train_tokens: int = Field(ge=8, description="Longest input in training.")
    dropout: float = Field(ge=0, lt=1, description="In the layers above the trunk.")
    learning_rate: float = Field(gt=0, description="Highest; it rises, then falls to 0 linearly.")
    warmup: float = Field(ge=0, lt=1, description="Share of the steps in which it rises.")
    weight_decay: float = Field(ge=0)
    epochs: int = Field(ge=1)
    step_tokens: int = Field(ge=1, description="Tokens of a step; a prompt's texts stay together.")
    balance: float = Field(
        ge=0,
        le=1,
        description="1 = in each source, pairs whose longer text wins weigh as much as those whose "
        "longer text loses; 0 = every pair the same.",
    )
    plain_share: float = Field(ge=0, le=1, description="Single-turn prompts without HH marks.")
    split_salt: str = Field(description="Which roots go to which part depends on it.")
    dev_share: float = Field(gt=0, lt=0.5)
    test_share: float = Field(gt=0, lt=0.5)
    sources: tuple[Source, ...] = Field(min_length=1)
    notes: tuple[str, ...] = Field(default=(), description="Shown with the model.")


def load_recipe(recipe: str) -> Recipe:
    """A recipe by its name, or by the path of a TOML file.

    Raises:
        DataError: there is none of that name, or the file is no recipe.
    """
    path = Path(recipe) if recipe.endswith(".toml") else RECIPES / f"{recipe}.toml"
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise DataError(f"no recipe {recipe!r}: there is {known}, or name a .toml file") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {where}: {first['msg']}") from error
