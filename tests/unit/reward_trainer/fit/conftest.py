"""Tiny trainings: a random backbone, and pairs in which `ab` always beats `yz`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import pytest
import torch

from reward_trainer.fit.recipe import Recipe, load_recipe
from tiny_models import save_family

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a random model of a family, made once."""
    root = tmp_path_factory.mktemp("backbones")

    def folder(family: str) -> str:
        path = root / family
        return str(path if path.exists() else save_family(family, path))

    return folder


@pytest.fixture
def make_recipe(backbones: Callable[[str], str]) -> Callable[..., Recipe]:
    def make(family: str = "llama", name: str = "bt", **changes: Any) -> Recipe:
        tiny = {"epochs": 3, "learning_rate": 1e-2, "step_tokens": 300, "train_tokens": 64}
        return load_recipe(name, {"backbone": backbones(family), **tiny, **changes})

    return make


@pytest.fixture
def toy_table() -> datasets.Dataset:
    rows = [
        {"prompt": f"q{i % 12}", "chosen": f"abab{i}", "rejected": f"yzyz{i}"} for i in range(36)
    ]
    return datasets.Dataset.from_list(rows)
