import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from assay.errors import DataError
from ppo_worker.demo.corpus import Document, read_corpus

ANSWER = "Rivers {} because the land is not level, and water takes the lowest way that there is."
UNIFORM = ("is-the-school-uniform-a-good-or-bad-idea-", "good")
BROWSER = (
    "firefox-vs-internet-explorer",
    "it-has-a-cute-logo-oh-and-extensions-err-add-ons",
)


def argument(side: tuple[str, str], chosen: str, rejected: str) -> dict[str, str]:
    topic, stance = side
    return {"prompt": "p", "topic": topic, "stance": stance, "chosen": chosen, "rejected": rejected}


def bends(number: int) -> str:
    """A text of its own for each number, in words that the others have too."""
    return ANSWER.format(f"bend {number // 10} and {number % 10} times")


def asked(number: int, answer: str = "") -> dict[str, str]:
    return {"prompt": f"Question {number}?", "completion": answer or bends(number)}


def write(folder: Path, rows: Mapping[str, Sequence[object]]) -> Path:
    base = {
        "llmbar": [{"prompt": "\n\nHuman: Question 3?\n\nAssistant:"}],
        "evalbiasbench": [{"prompt": "p"}],
        "oasst_en100_trees": [
            {"prompt": "\n\nHuman: Why?\n\nAssistant:", "chosen": ANSWER.format("twist")}
        ],
        "pandalm_human_test": [{"prompt": "p", "chosen": "No prose"}],
        "policy_samples_open": [asked(number) for number in range(100)],
        "ukpconvarg1_strict": [
            argument(UNIFORM, ANSWER.format("bend"), ANSWER.format("bend")),
            argument(BROWSER, ANSWER.format("freeze"), "short"),
            argument(("is-porn-wrong-", "no-is-is-not"), ANSWER.format("dry up"), "short"),
        ],
    }
    for name, found in {**base, **rows}.items():
        lines = [row if isinstance(row, str) else json.dumps(row) for row in found]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_held_out_topics_and_prompts_of_evaluations_are_not_trained_on(tmp_path: Path) -> None:
    browsers = asked(101, ANSWER.format("freeze while I read about Firefox"))
    rows = [*(asked(number) for number in range(100)), browsers, asked(102, ANSWER.format("turn"))]
    corpus = read_corpus(
        write(tmp_path, {"policy_samples_open": [*rows, asked(102, ANSWER.format("turn"))]})
    )
    learned = " ".join(document.text for document in corpus.train)
    assert [document.text for document in corpus.held_out_arguments] == [ANSWER.format("freeze")]
    assert bends(3) not in learned
    assert "freeze" not in learned
    assert "dry up" not in learned
    asked_of = [prompt for document in corpus.train for prompt in document.prompts]
    assert not {prompt for document in corpus.held_out for prompt in document.prompts} & {*asked_of}
    assert 0 < len(corpus.held_out) < 10
    assert len(corpus.train) + len(corpus.held_out) == 1 + 1 + 99 + 1
    assert corpus.train[0] == Document(
        "arguments",
        (
            "Is the school uniform a good or a bad idea? Argue for: a good idea.",
            "Is the school uniform a good or a bad idea? Make the case for: a good idea.",
            "Argue for: a good idea. The question: Is the school uniform a good or a bad idea?",
            "Is the school uniform a good or a bad idea? Give one good reason for: a good idea.",
        ),
        ANSWER.format("bend"),
    )


def test_answers_with_words_that_are_not_common_are_left_out(tmp_path: Path) -> None:
    held_out = {document.prompts[0] for document in read_corpus(write(tmp_path, {})).held_out}
    rare = ANSWER.format("meander")
    rows = [
        asked(number, rare if f"Question {number}?" in sorted(held_out)[:1] else "")
        for number in range(100)
    ]
    fewer = read_corpus(write(tmp_path, {"policy_samples_open": rows})).held_out
    assert {document.prompts[0] for document in fewer} == set(sorted(held_out)[1:])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "policy_samples_open.jsonl line 2: row: Invalid JSON"),
        ('{"completion": "x"}', "line 2: prompt: Field required"),
        ('{"prompt": 3}', "line 2: prompt: Input should be a valid string"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    folder = write(tmp_path, {"policy_samples_open": [asked(1), line]})
    with pytest.raises(DataError, match=message):
        read_corpus(folder)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path, {})
    (tmp_path / "llmbar.jsonl").rename(tmp_path / "llmbar.jsonl.gz")
    with pytest.raises(DataError, match=r"llmbar.jsonl.gz cannot be read: Not a gzipped file"):
        read_corpus(tmp_path)
    (tmp_path / "llmbar.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"has neither llmbar.jsonl nor llmbar.jsonl.gz"):
        read_corpus(tmp_path)


def test_an_unknown_stance_is_named(tmp_path: Path) -> None:
    rows = [argument((UNIFORM[0], "neither"), ANSWER, ANSWER)]
    with pytest.raises(DataError, match="uniform-a-good-or-bad-idea- has no stance 'neither'"):
        read_corpus(write(tmp_path, {"ukpconvarg1_strict": rows}))


def test_data_without_prose_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too little prose"):
        read_corpus(write(tmp_path, {"policy_samples_open": [{"prompt": "p", "completion": "no"}]}))
