from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.errors import DataError
from reward_trainer.evaluate.examples import read_examples
from reward_trainer.evaluate.layout import Layout

PAIR = {"prompt": "Which?", "chosen": "this one", "rejected": "that"}
RM_BENCH = {"prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "math"}
BEST_OF_4 = {
    "id": "7",
    "prompt": "p",
    "chosen": ["a"],
    "rejected": ["b", "c", "d"],
    "num_correct": 1,
    "subset": "Focus",
}


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "data.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def test_formats_are_recognised_by_their_columns(tmp_path: Path) -> None:
    for row, kind in ((PAIR, "pairs"), (RM_BENCH, "rm-bench"), (BEST_OF_4, "reward-bench-2")):
        assert read_examples(write(tmp_path, [row])).kind == kind


def test_a_conversation_is_read_as_messages(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "Which?"}]
    row = {
        "chosen": [*turn, {"role": "assistant", "content": "this"}],
        "rejected": [*turn, {"role": "assistant", "content": "that one"}],
    }
    layout = Layout.of(read_examples(write(tmp_path, [row])).rows)
    assert layout.lengths.tolist() == [4.0, 8.0]


def test_subsets_come_from_the_named_column_or_the_usual_one(tmp_path: Path) -> None:
    rows = [{**PAIR, "subset": "s", "topic": 3}, {**PAIR, "subset": "t", "topic": 4}]
    path = write(tmp_path, rows)
    assert read_examples(path).subsets == ["s", "t"]
    assert read_examples(path, subset="topic").subsets == ["3", "4"]
    with pytest.raises(DataError, match=r"no column 'theme' for the subsets: there are .*topic"):
        read_examples(path, subset="theme")
    assert read_examples(write(tmp_path, [PAIR])).subsets == ["all"]
    with pytest.raises(DataError, match="row 2: column 'topic' holds no name"):
        read_examples(write(tmp_path, [rows[0], {**PAIR, "topic": None}]), subset="topic")


def test_roots_group_the_prompts_or_a_column(tmp_path: Path) -> None:
    rows = [{**PAIR, "prompt": text, "topic": "x"} for text in ("Which?", "which", "Who?")]
    path = write(tmp_path, rows)
    assert [
        len(set(read_examples(path, group=by).roots)) for by in ("root", "prompt", "topic")
    ] == [
        2,
        3,
        1,
    ]


def test_a_limit_draws_the_same_rows_each_time(tmp_path: Path) -> None:
    rows = [{**PAIR, "chosen": f"text {i}", "topic": i} for i in range(50)]
    path = write(tmp_path, rows)
    drawn = read_examples(path, limit=10, subset="topic")
    assert drawn.subsets == read_examples(path, limit=10, subset="topic").subsets
    assert [row.chosen[0] for row in drawn.rows] == [f"text {name}" for name in drawn.subsets]
    assert drawn.subsets != [str(i) for i in range(10)]
    assert len(read_examples(path, limit=99).rows) == 50


def test_an_error_names_the_row_of_the_source_whatever_the_limit(tmp_path: Path) -> None:
    rows = [{**PAIR, "gpt": i % 2} for i in range(30)]
    path = write(tmp_path, [*rows, {**PAIR, "gpt": 7}])
    with pytest.raises(DataError, match="row 31: column 'gpt' holds '7'"):
        read_examples(path, labels=["gpt"], limit=2)
    assert len(read_examples(write(tmp_path, rows), labels=["gpt"], limit=5).labels["gpt"]) == 5


def test_the_digest_is_blind_to_order_and_sees_labels(tmp_path: Path) -> None:
    other = {"prompt": "Who?", "chosen": "she", "rejected": "he"}
    turned = {"prompt": "Who?", "chosen": "he", "rejected": "she"}
    digests = [
        read_examples(write(tmp_path, rows)).digest
        for rows in ([PAIR, other], [other, PAIR], [PAIR, turned])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_text_that_occurs_twice_is_laid_out_once(tmp_path: Path) -> None:
    rows = [PAIR, {**PAIR, "rejected": "a third"}, {**PAIR, "prompt": "Which one?"}]
    layout = Layout.of(read_examples(write(tmp_path, rows)).rows)
    assert (layout.chosen, layout.rejected) == ([[0], [0], [3]], [[1], [2], [4]])
    assert layout.texts[2].where.endswith("data.jsonl, line 2, rejected")


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([], "no rows"),
        ([PAIR, {**PAIR, "chosen": " "}], "line 2: column 'chosen' is empty"),
        ([{**PAIR, "chosen": "that"}], "line 1: chosen and rejected are the same"),
        ([{"text": "a", "label": 1}], "line 1: columns text, label; expected `prompt`"),
        ([RM_BENCH, {**RM_BENCH, "chosen": ["a"]}], "line 2: column 'chosen' holds 1 texts, not 3"),
        ([RM_BENCH, {**RM_BENCH, "rejected": ["a", "", "b"]}], "'rejected' holds an empty text"),
        ([RM_BENCH, {**RM_BENCH, "prompt": None}], "'prompt' holds an empty text, or no text"),
        ([BEST_OF_4, {**BEST_OF_4, "rejected": []}], "line 2: column 'rejected' holds no list"),
        ([RM_BENCH, {**RM_BENCH, "domain": None}], "row 2: column 'domain' holds no name"),
    ],
)
def test_rows_that_cannot_be_used_are_named(
    tmp_path: Path, rows: list[dict[str, Any]], named: str
) -> None:
    with pytest.raises(DataError, match=named):
        read_examples(write(tmp_path, rows))


def test_unusable_pairs_can_be_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, [{**PAIR, "chosen": "that"}, PAIR])
    examples = read_examples(path, skip_unusable=True)
    assert [row.where for row in examples.rows] == ["row 1 of those that can be used"]
