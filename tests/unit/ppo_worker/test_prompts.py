"""Files of prompts, good and bad, and the order in which a run takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.errors import DataError
from ppo_worker.prompts import Prompts, read_prompts, read_texts

NAMES = [f"p{i}" for i in range(7)]


def test_each_pass_takes_every_prompt_once_in_an_order_of_its_own() -> None:
    prompts = Prompts(NAMES, ["held"])
    taken = [name for step in range(1, 8) for name in prompts.batch(3, 0, step)]
    passes = [taken[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(map(str, one)) == NAMES for one in passes)
    assert passes[0] != passes[1]
    assert prompts.batch(3, 0, 5) == taken[12:15]  # whatever came before
    assert prompts.batch(3, 1, 5) != taken[12:15]


def test_a_short_run_visits_some_prompts_and_a_long_one_all() -> None:
    prompts = Prompts(NAMES, ["held"])
    assert prompts.visited(2, 0, 2) == [*prompts.batch(2, 0, 1), *prompts.batch(2, 0, 2)]
    assert prompts.visited(2, 0, 4) == NAMES


def test_lines_that_say_their_split_keep_it_and_others_are_held_out_by_the_seed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "prompts.jsonl"
    turns = [{"role": "user", "content": "hi"}]
    rows = [
        {"prompt": "a"},
        {"prompt": turns, "split": "train"},
        {"prompt": "c", "split": "held_out"},
    ]
    path.write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)))
    prompts = read_prompts(path, 0)
    assert len(prompts.train) == 2
    assert list(prompts.held_out) == ["c"]
    plain = tmp_path / "prompts.txt"
    plain.write_bytes("\r\n".join(f"é {i}\u2028" for i in range(30)).encode())
    drawn = read_prompts(plain, 0)
    assert len(drawn.held_out) == 3
    assert {*drawn.train, *drawn.held_out} == {f"é {i}\u2028" for i in range(30)}
    assert read_prompts(plain, 1).held_out != drawn.held_out


def test_a_hundred_prompts_of_a_large_file_are_held_out(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"p{i}\n" for i in range(1500)))
    prompts = read_prompts(path, 0)
    assert (len(prompts.train), len(prompts.held_out)) == (1400, 100)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"", "0 prompts: two are needed"),
        ("a.txt", b"one\n", "1 prompts: two are needed"),
        ("a.txt", b"one\n\xff\n", "not UTF-8"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt": 3}\n', "line 2 .*string or a list"),
        ("a.jsonl", b'{"prompt": "a", "prompts": 1}\n', "line 1 .*prompts"),
        ("a.jsonl", b'{"prompt": "a", "split": "test"}\n', "line 1 .*split"),
        ("a.jsonl", b'{"prompt": "\\ud800"}\n', "line 1"),
        ("a.jsonl", b"plain text\n", "no JSON"),
        ("a.jsonl", b"[1]\n", "no JSON object"),
        ("a.JSON", b'[{"prompt": "a"}]\n', "no JSON object"),
        ("a.jsonl", b"[" * 100_000, "no JSON"),
        ("a.jsonl", b'{"prompt": "a", "split": "train"}\n', "no held_out prompts"),
        ("a.jsonl", b'{"prompt": "a", "split": "held_out"}\n', "no train prompts"),
    ],
)
def test_bad_files_are_refused_with_the_line(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_prompts(tmp_path / name, 0)


def test_files_that_are_not_there_and_texts_that_are_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_prompts(tmp_path / "nothing.txt", 0)
    with pytest.raises(DataError, match="cannot be read"):
        read_prompts(tmp_path, 0)
    (tmp_path / "texts.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(DataError, match="line 1"):
        read_texts(tmp_path / "texts.jsonl")
    (tmp_path / "texts.txt").write_text("\n \n")
    with pytest.raises(DataError, match="no text"):
        read_texts(tmp_path / "texts.txt")
