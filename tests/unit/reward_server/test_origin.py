"""What the setting `model` stands for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.errors import ModelNotFoundError
from assay.registry.aliases import Aliases
from assay.registry.store import Store
from reward_server.origin import find_origin
from reward_server.settings import ServerSettings
from tiny_models import save_family


def settings(model: str, folder: Path) -> ServerSettings:
    return ServerSettings(_env_file=None, model=model, home=folder, store=str(folder / "store"))


def put(folder: Path, name: str, version: int, **fields: Any) -> None:
    place = folder / "store" / name / str(version)
    place.mkdir(parents=True)
    manifest = {
        "name": name, "version": version, "created": 0, "kind": "whole", "members": ["."],
        "input_format": "concat", "max_tokens": 64, **fields,
    }  # fmt: skip
    (place / "manifest.json").write_text(json.dumps(manifest))


def test_a_name_is_what_its_alias_serves(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        put(tmp_path, "toy", version)
    Store(str(tmp_path / "store")).write_aliases("toy", Aliases(epoch=4, serving=2, previous=1))
    origin = find_origin(settings("toy", tmp_path))
    assert (str(origin.ref), origin.follows, origin.aliases.epoch) == ("toy@2", True, 4)


def test_without_aliases_it_is_the_newest_released_one(tmp_path: Path) -> None:
    put(tmp_path, "toy", 1)
    put(tmp_path, "toy", 2, status="candidate")
    put(tmp_path, "toy", 3, status="rejected")
    assert str(find_origin(settings("toy", tmp_path)).ref) == "toy@1"


def test_the_embedded_model_serves_until_another_is_promoted(tmp_path: Path) -> None:
    put(tmp_path, "assay-minilm", 2, status="candidate")
    assert str(find_origin(settings("assay-minilm", tmp_path)).ref) == "assay-minilm@1"
    Store(str(tmp_path / "store")).write_aliases("assay-minilm", Aliases(epoch=1, serving=2))
    assert str(find_origin(settings("assay-minilm", tmp_path)).ref) == "assay-minilm@2"


def test_a_version_and_a_folder_are_fixed(tmp_path: Path) -> None:
    put(tmp_path, "toy", 1)
    put(tmp_path, "toy", 2)
    version = find_origin(settings("toy@1", tmp_path))
    assert (str(version.ref), version.follows) == ("toy@1", False)
    folder = find_origin(settings(str(save_family("bert", tmp_path / "whole")), tmp_path))
    assert (str(folder.ref), folder.follows) == ("whole@1", False)


def test_a_hub_id_begins_as_version_one_and_follows(tmp_path: Path) -> None:
    origin = find_origin(settings("Org/Model", tmp_path))
    assert (str(origin.ref), origin.location, origin.follows) == ("org--model@1", "Org/Model", True)
    put(tmp_path, "org--model", 2)
    Store(str(tmp_path / "store")).write_aliases("org--model", Aliases(epoch=1, serving=2))
    origin = find_origin(settings("Org/Model", tmp_path))
    assert (str(origin.ref), origin.location) == ("org--model@2", None)


@pytest.mark.parametrize("model", ["nowhere", "toy@9", "a b"])
def test_what_is_not_there_is_not_found(tmp_path: Path, model: str) -> None:
    with pytest.raises(ModelNotFoundError):
        find_origin(settings(model, tmp_path))
