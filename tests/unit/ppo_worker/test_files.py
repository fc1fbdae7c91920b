"""A run's files after a kill, a full disk or a hand that changed them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
import torch

from assay.errors import DataError
from ppo_worker.checkpoint import State, read_checkpoint, write_checkpoint
from ppo_worker.metrics import Event, Journal, StepRecord, read_rows
from ppo_worker.report import write_report


def record(step: int) -> StepRecord:
    names = [name for name in StepRecord.model_fields if name not in ("step", "model_version")]
    return StepRecord(
        step=step,
        model_version="m@1",
        **dict.fromkeys(names, 1),
    )


def test_the_newest_checkpoint_comes_back_and_older_ones_go(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path) is None
    for step in (1, 10):
        write_checkpoint(tmp_path, State(run_id="r", step=step), {"x": torch.tensor([step])})
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert (found.state.step, found.tensors["x"].item()) == (10, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["000000010"]


def test_a_checkpoint_that_was_cut_off_is_not_seen_and_a_damaged_one_is_named(
    tmp_path: Path,
) -> None:
    folder = write_checkpoint(tmp_path, State(run_id="r", step=1), {"x": torch.zeros(4)})
    (tmp_path / ".000000002.tmp").mkdir()
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state.step == 1
    data = (folder / "tensors.pt").read_bytes()
    (folder / "tensors.pt").write_bytes(data[:-1] + b"?")
    with pytest.raises(DataError, match="damaged .*digest"):
        read_checkpoint(tmp_path)
    (folder / "state.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, State(run_id="r", step=1), {"x": torch.zeros(1)})
    (tmp_path / "000000002").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        write_checkpoint(tmp_path, State(run_id="r", step=2), {"x": torch.ones(1)})
    assert (tmp_path / "000000001").is_dir()


def test_what_was_written_after_the_checkpoint_is_forgotten_a_torn_line_too(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, 0)) as journal:
        for step in (1, 2, 3):
            journal.step(record(step))
            journal.event("version", now=f"m@{step}")
    with (tmp_path / "events.jsonl").open("a") as lines:
        lines.write('{"kind": "ver')
    with closing(Journal(tmp_path, 2)) as journal:
        assert [row.step for row in journal.steps] == [1, 2]
        journal.step(record(3))
    assert [row.step for row in read_rows(tmp_path / "steps.jsonl", StepRecord)] == [1, 2, 3]
    events = read_rows(tmp_path / "events.jsonl", Event)
    assert [(row.step, row.model_extra) for row in events] == [
        (1, {"now": "m@1"}),
        (2, {"now": "m@2"}),
    ]


def test_a_disk_that_fills_up_is_one_line(
    largest_file: Callable[[int], AbstractContextManager[None]], tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    with (
        closing(Journal(tmp_path / "a", 0)) as journal,
        largest_file(2000),
        pytest.raises(DataError, match="events.jsonl cannot be written: .*free some disk"),
    ):
        journal.event("version", now="m" * 3000)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "tensorboard").touch()
    with pytest.raises(DataError, match="tensorboard cannot be written"):
        Journal(tmp_path / "b", 0)
    (tmp_path / "b" / "steps.jsonl").mkdir()
    with pytest.raises(DataError, match="steps.jsonl cannot be read"):
        write_report(tmp_path / "b")


def test_a_report_names_a_line_that_is_none_and_texts_are_escaped(tmp_path: Path) -> None:
    run = tmp_path / "<run>"
    run.mkdir()
    with closing(Journal(run, 0)) as journal:
        journal.step(record(1))
        journal.warning("collapse", detail="<b>")
    page = write_report(run).read_text()
    assert "&lt;run&gt;" in page
    assert "detail: &lt;b&gt;" in page
    with (run / "steps.jsonl").open("a") as lines:
        lines.write("null\n")
    with pytest.raises(DataError, match="line 2"):
        write_report(run)
