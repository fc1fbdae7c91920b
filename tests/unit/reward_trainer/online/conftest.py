"""A store with a tiny ensemble, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from online_trainer import save_model

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The folder of `toy@1` of a family, `lora` or `full`."""
    root = tmp_path_factory.mktemp("models")

    def folder(family: str, adapter: str) -> Path:
        store = root / f"{family}-{adapter}" / "store"
        return store / "toy" / "1" if store.exists() else save_model(store, family, 2, adapter)

    return folder
