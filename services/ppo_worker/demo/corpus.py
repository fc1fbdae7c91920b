"""The texts that the default policy learns from, and those that it is measured on."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from assay.errors import DataError
from ppo_worker.demo.prose import normal, pieces
from ppo_worker.demo.task import HELD_OUT, TRAINING, Topic

Source = Literal["samples", "replies", "arguments"]

CREDITS = {
    "policy_samples_open": "samples of open models, Open-Assistant/oasst-model-eval, Apache-2.0",
    "oasst_en100_trees": "OpenAssistant conversations, LAION-AI/Open-Assistant, Apache-2.0",
    "pandalm_human_test": "PandaLM human test set, WeOpenML/PandaLM, Apache-2.0",
    "ukpconvarg1_strict": "UKPConvArg1Strict, UKPLab/acl2016-convincing-arguments, CC-BY 4.0; cut "
    "into pieces of whole sentences, the questions and sides in other words",
}
_ARGUMENTS = "ukpconvarg1_strict"
_ANSWERS: dict[str, Source] = {
    "oasst_en100_trees": "replies",
    "pandalm_human_test": "replies",
    "policy_samples_open": "samples",
}
_EVALUATION = ("llmbar", "evalbiasbench")
_COMMON_WORDS = 4000  # a small model learns more of plain texts than of rare words
_HELD_OUT_PERCENT = 2  # of the prompts of samples and replies
_LONGEST_PROMPT = 160  # characters; what answers a longer one is learned without it
_HELD_OUT_TOPICS = re.compile(
    r"firefox|mozilla|internet explorer|fatherless|(lousy|absent|bad) (father|dad)", re.IGNORECASE
)


@dataclass(frozen=True)
class Document:
    """A text and the prompts that it answers; none where it goes on from another text."""

    source: Source
    prompts: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Corpus:
    """What to train on, and what was kept back.

    Attributes:
        train: every text once.
        held_out: answers to prompts that no document of `train` answers.
        held_out_arguments: on the two topics that `train` does not touch.
    """

    train: list[Document]
    held_out: list[Document]
    held_out_arguments: list[Document]

    @property
    def counts(self) -> dict[str, int]:
        """Documents of `train` by source."""
        return dict(Counter(document.source for document in self.train))

    @property
    def digest(self) -> str:
        """SHA-256 of all that is trained on."""
        digest = hashlib.sha256()
        for document in self.train:
            digest.update(json.dumps([document.prompts, document.text]).encode())
        return digest.hexdigest()


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: str
    completion: str = ""
    chosen: str = ""
    rejected: str = ""
    topic: str = ""
    stance: str = ""

    @property
    def question(self) -> str:
        """The prompt without the marks of a chat."""
        return self.prompt.removeprefix("\n\nHuman: ").removesuffix("\n\nAssistant:").strip()


def read_corpus(folder: Path) -> Corpus:
    """Read, clean and split the files of a folder of data.

    Raises:
        DataError: a file is missing, damaged or without a column, or nothing of it can be used.
    """
    measured_elsewhere = {
        normal(row.question) for name in _EVALUATION for row in _rows(folder, name)
    }
    judged = list(_rows(folder, _ARGUMENTS))
    train, held_out = list(_arguments(judged, TRAINING)), list[Document]()
    for name, source in _ANSWERS.items():
        for row in _rows(folder, name):
            if normal(row.question) not in measured_elsewhere:
                part = held_out if _is_held_out(row.question) else train
                part.extend(_answer(row, source))
    train, held_out = _once(train), _once(held_out)
    common = _common_words(train)
    corpus = Corpus(
        [document for document in train if _is_plain(document, common)],
        [document for document in held_out if _is_plain(document, common)],
        _once(_arguments(judged, HELD_OUT)),
    )
    if not (corpus.train and corpus.held_out and corpus.held_out_arguments):
        raise DataError(f"{folder} has too little prose to train a policy on")
    return corpus


def _answer(row: _Row, source: Source) -> Iterator[Document]:
    question = " ".join(row.question.split())
    for begins, text in pieces(row.completion or row.chosen):
        prompts = (question,) if begins and len(question) <= _LONGEST_PROMPT else ()
        if not _HELD_OUT_TOPICS.search(f"{question} {text}"):
            yield Document(source, prompts, text)


def _arguments(judged: Iterable[_Row], topics: Iterable[Topic]) -> Iterator[Document]:
    """Every argument of a topic, the convincing and the others alike."""
    known = {topic.name: topic for topic in topics}
    for row in judged:
        if topic := known.get(row.topic):
            if row.stance not in topic.stances:
                raise DataError(f"{_ARGUMENTS}: topic {row.topic} has no stance {row.stance!r}")
            prompts = tuple(topic.prompts(row.stance))
            for argument in (row.chosen, row.rejected):
                for _, text in pieces(argument, strict=False):
                    yield Document("arguments", prompts, text)


def _is_held_out(question: str) -> bool:
    digest = hashlib.sha256(normal(question).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < _HELD_OUT_PERCENT


def _once(documents: Iterable[Document]) -> list[Document]:
    """Each text the first time that it occurs."""
    found: dict[str, Document] = {}
    for document in documents:
        found.setdefault(normal(document.text), document)
    return list(found.values())


def _common_words(documents: Iterable[Document]) -> set[str]:
    """The words that most documents have."""
    counts = Counter(
        word for document in documents for word in dict.fromkeys(normal(document.text).split())
    )
    return {word for word, _ in counts.most_common(_COMMON_WORDS)}


def _is_plain(document: Document, common: set[str]) -> bool:
    return document.source == "arguments" or common.issuperset(normal(document.text).split())


def _rows(folder: Path, name: str) -> Iterator[_Row]:
    path = _file(folder, name)
    packed = path.suffix == ".gz"
    try:
        with (gzip.open if packed else open)(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield _row(line, f"{path} line {number}")
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _row(line: str | bytes, where: str) -> _Row:
    try:
        return _Row.model_validate_json(line)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"])) or "row"
        raise DataError(f"{where}: {field}: {error.errors()[0]['msg']}") from error


def _file(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder} has neither {name}.jsonl nor {name}.jsonl.gz")
