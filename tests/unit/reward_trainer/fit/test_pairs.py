from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import datasets
import pytest

from assay.errors import DataError
from reward_trainer.fit.pairs import Pair, bare_prompt, pairs_of, read_sources
from reward_trainer.fit.recipe import Recipe, Source, load_recipe

ROW = {"prompt": "\n\nHuman: Which?\n\nAssistant:", "chosen": "this one", "rejected": "that"}


def recipe(*sources: Source) -> Recipe:
    return load_recipe("default").model_copy(update={"sources": sources})


def source(name: str = "pairs", root: Literal["topic", "turn", "chat"] = "turn") -> Source:
    return Source(name=name, root=root)


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def table(*rows: dict[str, Any]) -> datasets.Dataset:
    return datasets.Dataset.from_list(list(rows))


def test_sources_are_read_in_order_and_repeated_rows_count_once(tmp_path: Path) -> None:
    write(tmp_path, "pairs", [ROW, ROW, {**ROW, "chosen": "another"}])
    write(tmp_path, "topics", [{**ROW, "topic": "t"}])
    found = read_sources(tmp_path, recipe(source(), source("topics", "topic")))
    assert [(pair.source, pair.row) for pair in found] == [
        ("pairs", 1),
        ("pairs", 3),
        ("topics", 1),
    ]
    assert [pair.root for pair in found] == ["which", "which", "topic:t"]


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither pairs\.jsonl nor pairs\.jsonl\.gz"):
        read_sources(tmp_path, recipe(source()))


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([ROW, {**ROW, "chosen": " "}], "row 2: column 'chosen' is empty"),
        ([{**ROW, "rejected": ROW["chosen"]}], "row 1: chosen and rejected are the same"),
        ([{"prompt": "p", "chosen": "a"}], "row 1: nothing in column 'rejected'"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_named(rows: list[dict[str, Any]], named: str) -> None:
    with pytest.raises(DataError, match=named):
        pairs_of(table(*rows), [""] * len(rows))


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        pairs_of(table(ROW).select([]), [])


def test_messages_are_pairs_too() -> None:
    reply = [{"role": "assistant", "content": "four"}]
    row = {
        "prompt": [{"role": "user", "content": "2 + 2?"}],
        "chosen": reply,
        "rejected": [{"role": "assistant", "content": "five!"}],
    }
    (pair,) = pairs_of(table(row), [""])
    assert pair.extra_length == len("four") - len("five!")
    assert json.loads(pair.key)[1] == reply


def test_a_pair_that_denoising_turned_is_measured_under_its_first_label() -> None:
    pair = Pair("", 1, "", "p", "a", "b", flipped=True)
    assert (pair.as_labelled().chosen, pair.as_labelled().flipped) == ("b", False)
    assert pair.swapped().as_labelled().chosen == "a"
    assert Pair("", 1, "", "p", "a", "b").as_labelled().chosen == "a"


def test_a_bare_prompt_has_no_marks_and_a_longer_chat_keeps_them() -> None:
    assert bare_prompt(ROW["prompt"]) == "Which?"
    chat = ROW["prompt"] + " Yes.\n\nHuman: Why?\n\nAssistant:"
    assert bare_prompt(chat) == chat
