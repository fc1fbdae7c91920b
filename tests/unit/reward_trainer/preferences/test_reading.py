from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from assay.errors import DataError
from reward_trainer.preferences.reading import read_preferences

ROW = {"prompt": "\n\nHuman: Which?\n\nAssistant:", "chosen": "this one", "rejected": "that"}
USER = {"role": "user", "content": "Which?"}
GOOD = {"role": "assistant", "content": "this one"}
BAD = {"role": "assistant", "content": "that"}
TURNS = {
    "chosen": ["When did it start?", "In 1939.", "How many died?", "56 million."],
    "rejected": ["When did it start?", "In 1939.", "How many died?", "Over 400,000."],
    "mean preference difference": -0.133,
}


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(tmp_path: Path, *rows: object) -> list[dict[str, Any]]:
    (tmp_path / "pairs.jsonl").write_text(lines(*rows), encoding="utf-8")
    return list(read_preferences(str(tmp_path / "pairs.jsonl")))


def test_other_columns_stay_as_they_are(tmp_path: Path) -> None:
    rows = [{**ROW, "topic": "a", "votes": [3, 2]}, {**ROW, "prompt": "p", "note": 1.5}]
    assert read(tmp_path, *rows) == [
        {**ROW, "topic": "a", "votes": [3, 2], "note": None},
        {**ROW, "prompt": "p", "topic": None, "votes": None, "note": 1.5},
    ]


def test_conversations_with_an_explicit_prompt(tmp_path: Path) -> None:
    row = {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}
    assert read(tmp_path, row) == [row]


@pytest.mark.parametrize("prompt", [{}, {"prompt": "Which?"}, {"prompt": [USER]}])
def test_whole_conversations_part_where_they_differ(tmp_path: Path, prompt: dict[str, Any]) -> None:
    before = [USER, GOOD, {"role": "user", "content": "Why?"}]
    row = {**prompt, "chosen": [*before, GOOD], "rejected": [*before, BAD]}
    assert read(tmp_path, row) == [{"prompt": before, "chosen": [GOOD], "rejected": [BAD]}]


def test_a_text_on_one_side_of_messages_becomes_a_message(tmp_path: Path) -> None:
    expected = {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}
    assert read(tmp_path, {"prompt": "Which?", "chosen": [GOOD], "rejected": [BAD]}) == [expected]
    row = {"prompt": [USER], "chosen": "this one", "rejected": "that"}
    assert read(tmp_path, row) == [expected]


def test_transcripts_part_after_the_last_assistant_mark_that_they_share(tmp_path: Path) -> None:
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    (row,) = read(tmp_path, {"chosen": f"{start} the same start, x", "rejected": f"{start} the y"})
    assert row == {"prompt": start, "chosen": "the same start, x", "rejected": "the y"}


def test_lists_of_turns_are_read_from_the_last_reply_backwards(tmp_path: Path) -> None:
    (row,) = read(tmp_path, TURNS)
    assert [message["role"] for message in row["prompt"]] == ["user", "assistant", "user"]
    assert row["rejected"] == [{"role": "assistant", "content": "Over 400,000."}]
    assert row["mean preference difference"] == -0.133
    cut = {side: TURNS[side][1:] for side in ("chosen", "rejected")}  # type: ignore[index]
    (row,) = read(tmp_path, cut)
    assert [message["role"] for message in row["prompt"]] == ["assistant", "user"]


def test_every_kind_of_file_gives_the_same_table(tmp_path: Path) -> None:
    rows = [{**ROW, "topic": "a"}, {**ROW, "chosen": "another \u2028 one", "topic": "b"}]
    (tmp_path / "a.jsonl").write_text(f"\ufeff{lines(*rows)}\n", encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    (tmp_path / "c.json").write_text(lines(*rows), encoding="utf-8")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(lines(*rows).encode()))
    (tmp_path / "e.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "f.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert list(read_preferences(str(path))) == rows, path.name


def test_a_folder_is_read_in_order_of_names_and_split_picks_files(tmp_path: Path) -> None:
    for name, text in [("b_train", "one"), ("a-train", "two"), ("valid", "three")]:
        (tmp_path / f"{name}.jsonl").write_text(lines({**ROW, "chosen": text}))
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / "valid.dropped.jsonl").write_text(lines(ROW))  # not to be trained on
    assert read_preferences(str(tmp_path))["chosen"][:] == ["two", "one", "three"]
    assert read_preferences(str(tmp_path), split="train")["chosen"][:] == ["two", "one"]
    with pytest.raises(DataError, match="no file with 'test' in its name"):
        read_preferences(str(tmp_path), split="test")


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([], "no rows"),
        ([{"question": "q", "answer": "a"}], "line 1: columns question, answer; expected `prompt`"),
        ([ROW, {**ROW, "chosen": " "}], "line 2: column 'chosen' is empty"),
        ([{**ROW, "prompt": ""}], "line 1: column 'prompt' is empty"),
        ([{**ROW, "rejected": ROW["chosen"]}], "line 1: chosen and rejected are the same"),
        ([{"prompt": "p", "chosen": "a"}], "line 1: nothing in column 'rejected'"),
        ([{**ROW, "chosen": 3}], "line 1: column 'chosen' holds neither text nor messages"),
        ([{**ROW, "chosen": []}], "line 1: column 'chosen' holds neither"),
        ([{**ROW, "prompt": ["a"]}], "line 1: column 'prompt' holds neither"),
        ([{**ROW, "chosen": "a\ud800"}], "line 1: column 'chosen' holds half of a surrogate"),
        ([{**ROW, "chosen": [GOOD]}], "line 1: chosen and rejected are of different types"),
        ([ROW, ["a"]], "line 2: not a JSON object"),
        ([{"chosen": "a", "rejected": "b"}], "line 1: no column 'prompt', and"),
        ([{"chosen": [GOOD], "rejected": [BAD]}], "line 1: chosen and rejected share no prompt"),
        ([{"chosen": [USER, GOOD], "rejected": [USER, GOOD]}], "line 1: chosen and rejected are"),
        ([{"chosen": [USER, USER, GOOD], "rejected": [USER, BAD]}], "differ before the last reply"),
        ([{**ROW, "chosen": [{"role": 3}], "rejected": [BAD]}], r"chosen\[0\] is no message"),
        (
            [{"prompt": [USER], "chosen": [{**GOOD, "content": None}], "rejected": [BAD]}],
            "line 1: column 'chosen' is empty",
        ),
        (
            [ROW, {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}],
            "line 2 holds messages, and pairs.jsonl, line 1 text",
        ),
        ([{**ROW, "n": 1}, {**ROW, "n": "x"}], "column 'n' is not of one type"),
        ([{**ROW, "n": 10**30}], "column 'n' is not of one type"),
    ],
)
def test_rows_that_are_no_pair_are_named(tmp_path: Path, rows: list[object], named: str) -> None:
    with pytest.raises(DataError, match=named):
        read(tmp_path, *rows)


def test_a_bad_row_of_a_parquet_file_or_json_array_is_counted(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "chosen": ""}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "b.parquet")
    for name in ("a.json", "b.parquet"):
        with pytest.raises(DataError, match=f"{name}, row 2: column 'chosen' is empty"):
            read_preferences(str(tmp_path / name))


def test_unusable_rows_can_be_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(lines({**ROW, "chosen": "", "n": 1}, {**ROW, "n": 2}, {"n": 3}))
    table = read_preferences(str(path), skip_unusable=True)
    assert list(table) == [{**ROW, "n": 2}]
    assert "2 of 3 rows left out, the first of them for: pairs.jsonl, line 1" in caplog.text
    path.write_text(lines({**ROW, "chosen": ""}))
    with pytest.raises(DataError, match="is empty"):
        read_preferences(str(path), skip_unusable=True)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = gzip.compress(lines(ROW).encode())
    damaged = {
        "truncated.jsonl.gz": whole[:-12],
        "plain.jsonl.gz": b"not gzip",
        "latin.jsonl": b'{"prompt": "\xe9"}',
        "text.parquet": b"not parquet",
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            read_preferences(str(tmp_path / name))
    (tmp_path / "half.jsonl").write_text(lines(ROW) + "{")
    with pytest.raises(DataError, match="half.jsonl, line 2: not JSON"):
        read_preferences(str(tmp_path / "half.jsonl"))
    (tmp_path / "deep.jsonl").write_text("[" * 200_000)
    with pytest.raises(DataError, match="deep.jsonl, line 1"):
        read_preferences(str(tmp_path / "deep.jsonl"))


def test_places_that_hold_no_table_are_named(tmp_path: Path) -> None:
    for location in ("missing.jsonl", "data/missing.jsonl", "a/b/c", "nothing"):
        with pytest.raises(DataError, match="no such file or folder"):
            read_preferences(location)
    with pytest.raises(DataError, match="has no file that ends in one of"):
        read_preferences(str(tmp_path))
    (tmp_path / "pairs.csv").write_text("a,b")
    with pytest.raises(DataError, match="expected a file that ends in one of"):
        read_preferences(str(tmp_path / "pairs.csv"))
    (tmp_path / "pairs.jsonl").write_text(lines(ROW))
    with pytest.raises(DataError, match="has no split 'test'"):
        read_preferences(str(tmp_path / "pairs.jsonl"), split="test")


def test_files_of_a_folder_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines({**ROW, "n": 1}))
    (tmp_path / "b.jsonl").write_text(lines({**ROW, "n": "x"}))
    with pytest.raises(DataError, match=r"a.jsonl, b.jsonl do not fit together"):
        read_preferences(str(tmp_path))


def test_a_hub_that_cannot_be_reached_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    code = "from reward_trainer.preferences.reading import read_preferences as r; r('org/pairs')"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}  # noqa: TID251 - of the child
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("assay.errors.DataError: the hub cannot be reached for org/pairs")
    assert "name a file or a folder" in last
