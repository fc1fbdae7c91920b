from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import datasets
import pytest

from assay.errors import DataError
from reward_trainer.preferences.columns import lists_of_numbers, numbers
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.preferences.writing import write_preferences

ROWS = [
    {"prompt": "p", "chosen": "été\u2028", "rejected": "b", "score": 0.1, "note": None},
    {"prompt": "q", "chosen": "c\n", "rejected": "d", "score": 1e-17, "note": "x"},
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "new/folder/a.parquet"])
def test_what_is_written_is_read_back_exactly(tmp_path: Path, name: str) -> None:
    write_preferences(datasets.Dataset.from_list(ROWS), tmp_path / name)
    assert list(read_preferences(str(tmp_path / name))) == ROWS
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_messages_are_written_without_the_fields_of_others(tmp_path: Path) -> None:
    user, reply = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    rows = [
        {"prompt": [user], "chosen": [{**reply, "name": "n"}], "rejected": [reply]},
        {"prompt": [user], "chosen": [reply], "rejected": [{**reply, "content": "c"}]},
    ]
    write_preferences(datasets.Dataset.from_list(rows), tmp_path / "a.jsonl")
    assert '"name": null' not in (tmp_path / "a.jsonl").read_text()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_full_disk_is_an_error_and_leaves_the_old_file(
    largest_file: Callable[[int], AbstractContextManager[None]], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("old")
    rows = [{**ROWS[0], "chosen": f"{i * 7919} {i}"} for i in range(20_000)]
    table = datasets.Dataset.from_list(rows)
    with largest_file(16_384), pytest.raises(DataError, match=f"{name} cannot be written"):
        write_preferences(table, tmp_path / name)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "old")]


def test_places_and_columns_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(ROWS)
    with pytest.raises(DataError, match=r"written to \.jsonl"):
        write_preferences(table, tmp_path / "a.csv")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        write_preferences(table, tmp_path / "file" / "a.jsonl")
    times = table.add_column("time", [datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)] * 2)
    with pytest.raises(DataError, match=r"does not fit JSON .*: write a \.parquet file"):
        write_preferences(times, tmp_path / "a.jsonl")


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_number_that_is_missing_is_named_with_the_remedy(value: float | None) -> None:
    table = datasets.Dataset.from_dict({"margin": [1.0, value], "list": [[1.0], [value]]})
    with pytest.raises(DataError, match=r"row 2: column 'margin' holds .*: measure it"):
        numbers(table, "margin", "measure it")
    with pytest.raises(DataError, match="row 2: column 'list' holds no finite numbers"):
        lists_of_numbers(table, "list", "measure it")
    with pytest.raises(DataError, match="no column 'margins': measure it"):
        numbers(table, "margins", "measure it")


def test_lists_of_another_length_are_named() -> None:
    table = datasets.Dataset.from_dict({"list": [[1.0, 2.0], [1.0]]})
    with pytest.raises(DataError, match="row 2: column 'list' has no 2 numbers"):
        lists_of_numbers(table, "list", "measure it")
