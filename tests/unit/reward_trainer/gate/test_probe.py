"""`assay probe` and the file that it keeps in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from assay.errors import DataError
from assay.registry.store import Store
from reward_trainer.gate.command import app
from reward_trainer.gate.probe import Probe
from reward_trainer.preferences.reading import read_preferences

FIRST = {"prompt": "Capital of France?", "chosen": "Paris.", "rejected": "Lyon.", "policy": "p3"}
SECOND = {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "Hello!", "rejected": "No."}
CHAT: dict[str, Any] = {
    "prompt": [{"role": "user", "content": "Hi"}],
    "chosen": [{"role": "assistant", "content": "Hello!"}],
    "rejected": [{"role": "assistant", "content": "No."}],
}


def write(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--store", str(tmp_path / "store")])


def test_pairs_are_added_once_listed_and_forgotten(tmp_path: Path) -> None:
    data = write(tmp_path, FIRST, SECOND)

    assert "2 pairs added, 2 in the probe" in run(tmp_path, "add", data).output
    assert "0 pairs added, 2 in the probe" in run(tmp_path, "add", data).output
    listed = run(tmp_path, "list").output
    assert "2 labelled pairs" in listed
    assert "Paris." in listed
    assert "2 pairs removed" in run(tmp_path, "clear").output
    assert "0 labelled pairs" in run(tmp_path, "list").output


def test_the_gate_gets_pairs_with_their_roots(tmp_path: Path) -> None:
    probe = Probe(Store(str(tmp_path)), "minilm")
    probe.add(read_preferences(write(tmp_path, FIRST, SECOND)))

    first, second = probe.pairs()

    assert (first.chosen, first.rejected, first.root) == ("Paris.", "Lyon.", "capital of france")
    assert (second.chosen, second.root) == ("Hello!", "hi")


def test_the_file_lies_beside_the_versions_and_is_a_table_of_preferences(tmp_path: Path) -> None:
    run(tmp_path, "add", write(tmp_path, FIRST), "--model", "Org/Model@7")

    (row,) = read_preferences(str(tmp_path / "store" / "org--model" / "probe.jsonl"))

    assert row["policy"] == "p3"
    assert row["chosen"] == "Paris."


def test_messages_and_texts_live_together(tmp_path: Path) -> None:
    probe = Probe(Store(str(tmp_path)), "minilm")
    for row in (FIRST, CHAT):
        probe.add(read_preferences(write(tmp_path, row)))

    assert [pair.root for pair in probe.pairs()] == ["capital of france", "hi"]
    assert probe.clear() == 2
    assert probe.pairs() == []


def test_the_opposite_label_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    probe = Probe(Store(str(tmp_path)), "minilm")
    probe.add(read_preferences(write(tmp_path, FIRST)))
    opposite = {**FIRST, "chosen": "Lyon.", "rejected": "Paris."}

    with pytest.raises(DataError, match="opposite label"):
        probe.add(read_preferences(write(tmp_path, SECOND, opposite)))

    assert [pair.chosen for pair in probe.pairs()] == ["Paris."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"probe.jsonl, line 1: not JSON"),
        ("[]", r"probe.jsonl, line 1: not a JSON object"),
        ('{"prompt": "p", "chosen": "a", "rejected": "a"}', "line 1: chosen and rejected are the"),
        ('{"prompt": "p", "chosen": 3, "rejected": "a"}', "line 1: column 'chosen' holds neither"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "minilm").mkdir()
    (tmp_path / "minilm" / "probe.jsonl").write_text(text + "\n")

    with pytest.raises(DataError, match=message):
        Probe(Store(str(tmp_path)), "minilm").pairs()


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "minilm").mkdir()
    (tmp_path / "minilm" / "probe.jsonl").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(DataError, match="probe.jsonl cannot be read"):
        Probe(Store(str(tmp_path)), "minilm").pairs()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "nowhere.jsonl"], "nowhere.jsonl: no such file or folder"),
        (["list", "--model", "a@b@c"], "a model is written name or name@7"),
    ],
)
def test_bad_arguments_end_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run(tmp_path, *arguments)

    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_a_store_of_an_unknown_kind_is_refused() -> None:
    done = CliRunner().invoke(app, ["list", "--store", "nosuch://bucket"])

    assert done.exit_code == 2
    assert "a store is a folder, file://... or s3://bucket/prefix" in done.output
