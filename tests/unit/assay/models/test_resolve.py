"""What a name stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.errors import ArtifactError, ModelNotFoundError
from assay.models.resolve import DEFAULT_MODEL, EMBEDDED, resolve
from assay.schemas.refs import ModelRef
from saved_versions import save_version


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """`rm@1` and `rm@10` are released, `rm@11` waits for a person, `rm@12` was rejected."""
    statuses = {1: "released", 10: "released", 11: "candidate", 12: "rejected"}
    for number, status in statuses.items():
        save_version(tmp_path / "rm" / str(number), ModelRef("rm", number), status=status)
    return tmp_path


def test_a_name_is_its_newest_released_version(store: Path) -> None:
    assert resolve("rm", store).ref == ModelRef("rm", 10)
    assert resolve(str(store / "rm")).ref == ModelRef("rm", 10)


@pytest.mark.parametrize("number", [1, 10, 11, 12])
def test_any_version_can_be_asked_for_by_number(store: Path, number: int) -> None:
    found = resolve(f"rm@{number}", store)
    assert (found.path, found.ref) == (store / "rm" / str(number), ModelRef("rm", number))


def test_candidates_alone_are_no_model_yet(store: Path) -> None:
    save_version(store / "new" / "1", ModelRef("new", 1), status="candidate")
    with pytest.raises(ModelNotFoundError, match="no reward model 'new'"):
        resolve("new", store)


def test_a_damaged_newest_version_is_not_passed_over(store: Path) -> None:
    (store / "rm" / "12" / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"rm/12/manifest\.json"):
        resolve("rm", store)


def test_the_package_s_own_model_needs_no_store(store: Path) -> None:
    assert resolve(DEFAULT_MODEL, store).path == EMBEDDED / DEFAULT_MODEL / "1"
