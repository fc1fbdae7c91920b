from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from assay.errors import DataError
from reward_trainer.online.checkpoint import newest_token, read_checkpoint, write_checkpoint
from reward_trainer.online.groups import Group, Joining
from reward_trainer.online.intake import Intake
from reward_trainer.online.state import State

TENSORS: dict[str, Any] = {"weights": [{"a": torch.arange(4.0)}], "random": torch.get_rng_state()}


def state(token: int = 1, saves: int = 1, **changes: Any) -> State:
    group = Group(prompt="p", completions=("a", "b"), policy="ppo", ids=("1-0",))
    fields = {
        "model": "toy",
        "lineage": "l",
        "parent": 1,
        "serving": 1,
        "last_id": "5-0",
        "intake": Intake(joining=Joining(k_max=4, join_span=9), held=[group], dead={"stale": 2}),
        "queue": [group],
        "recipe": "r",
        "token": token,
        "saves": saves,
    }
    return State.model_validate({**fields, **changes})


def test_what_was_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    written = state(history=[])
    write_checkpoint(tmp_path, written, TENSORS)
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state == written
    assert torch.equal(found.tensors["weights"][0]["a"], TENSORS["weights"][0]["a"])
    assert torch.equal(found.tensors["random"], TENSORS["random"])


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "nowhere") is None
    assert newest_token(tmp_path / "nowhere") == 0


def test_the_newest_counts_and_is_the_only_one_left(tmp_path: Path) -> None:
    for saves in (1, 2, 10):
        write_checkpoint(tmp_path, state(saves=saves, updates=saves), TENSORS)
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state.updates == 10
    assert len(list(tmp_path.iterdir())) == 1


def test_a_trainer_that_was_replaced_writes_behind_the_one_that_took_over(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(token=2, saves=11, updates=7), TENSORS)
    write_checkpoint(tmp_path, state(token=1, saves=99, updates=50), TENSORS)
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state.updates == 7
    assert newest_token(tmp_path) == 2
    write_checkpoint(tmp_path, state(token=2, saves=12, updates=8), TENSORS)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_kill_while_writing_leaves_the_one_before(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(saves=1), TENSORS)
    draft = tmp_path / ".000001-000000002.77.tmp"
    draft.mkdir()
    (draft / "tensors.pt").write_bytes(b"half")
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state.saves == 1
    write_checkpoint(tmp_path, state(saves=2), TENSORS)
    assert [path.name for path in tmp_path.iterdir()] == ["000001-000000002"]


@pytest.mark.parametrize("file", ["tensors.pt", "state.json", "tensors.sha256"])
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(file: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, state(), TENSORS)
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / file).write_bytes(data)
    with pytest.raises(DataError, match="is damaged .*: delete"):
        read_checkpoint(tmp_path)


def test_a_disk_that_cannot_be_written_is_an_error_and_keeps_the_last(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(saves=1), TENSORS)
    (tmp_path / "000001-000000002").mkdir()
    (tmp_path / "000001-000000002" / "in the way").touch()
    with pytest.raises(DataError, match="cannot be written"):
        write_checkpoint(tmp_path, state(saves=2), TENSORS)
    assert not list(tmp_path.glob(".*"))
