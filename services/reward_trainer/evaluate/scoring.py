"""One way to score texts, whether the model is a folder, on the hub, or behind a running server."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import httpx
import numpy as np
from rich.progress import Progress

from assay.client import Client
from assay.errors import AssayError, NotFoundError, ScoringError
from assay.schemas.text import Completion, Prompt
from reward_trainer.evaluate.statistics import Array

if TYPE_CHECKING:
    from assay.models.reward_model import RewardModel
    from assay.schemas.models import ModelCard
    from assay.schemas.scoring import GroupScores

# Few enough that a slow server answers in time, enough to keep several replicas busy.
_CALL_TEXTS = 16
_CALLS = 4
_TIMEOUT_S = 600.0
_GROUP = re.compile(r"groups\[(\d+)\](?:\.\w+(?:\[\d+\])?)?")


@dataclass(frozen=True)
class Text:
    """One completion of a prompt; `where` names it in errors."""

    prompt: Prompt
    completion: Completion
    where: str

    @property
    def key(self) -> str:
        """Equal for texts that are scored alike."""
        return json.dumps([_plain(self.prompt), _plain(self.completion)], sort_keys=True)


@dataclass(frozen=True)
class Scores:
    """What a model makes of some texts.

    Attributes:
        model: `name@7`.
        temperature: T of the preference probability sigmoid(difference / T); 1 = not calibrated.
        values: raw scores, finite, shape [texts, members].
        max_tokens: the longest input; of longer ones the oldest prompt tokens are dropped.
        truncated: how many texts that befell.
    """

    model: str
    temperature: float
    values: Array
    max_tokens: int
    truncated: int


class ScoreTexts(Protocol):
    """Scores any number of texts, all by one version.

    Raises:
        ModelLoadError: a local model cannot be loaded.
        ScoringError: a score is missing or not finite; the text is named.
        AssayError: a text does not fit the model, or the server fails.
    """

    def __call__(self, texts: Sequence[Text], progress: Progress) -> Scores: ...


@contextmanager
def opened(
    model: str | None, *, url: str | None = None, key: str | None = None, device: str = "auto"
) -> Iterator[ScoreTexts]:
    """The scores of a local model, which is loaded when it is first asked, or of a server.

    Args:
        model: folder, name or hub id; with `url` the version that must answer, None = serving.
        url: base URL of a running server.
        key: its key; None = `ASSAY_KEY`, or none.
        device: for a local model; `auto` = cuda if there is one.

    Raises:
        ModelNotFoundError: there is no such model.
        AssayError: the server does not answer, wants another key, or has no such model.
    """
    if url is None:
        yield _local(model or "", device)
        return
    with Client(url, key=key, timeout_s=_TIMEOUT_S, retries=3) as client:
        yield _remote(client, _card(client, model), httpx.URL(url).netloc.decode())


def _local(name: str, device: str) -> ScoreTexts:
    from assay.models.loading import load
    from assay.models.options import LoadOptions
    from assay.models.resolve import resolve

    resolve(name)

    def score(texts: Sequence[Text], progress: Progress) -> Scores:
        _silence_loading()
        return _score_locally(load(name, LoadOptions(device=device)), texts, progress)

    return score


def _silence_loading() -> None:
    """Weights that a checkpoint lacks are errors of ours; transformers' table of them is noise."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _score_locally(model: RewardModel, texts: Sequence[Text], progress: Progress) -> Scores:
    from assay.models.calibration import length_batches

    encoded = []
    for text in texts:
        try:
            encoded.append(model.encode(text.prompt, text.completion))
        except AssayError as error:
            raise type(error)(f"{text.where}: {error.detail}") from error
    values = np.empty((len(texts), model.members.count))
    task = progress.add_task(f"score with {model.card.id}", total=len(texts))
    for batch in length_batches(encoded):
        values[batch] = model.score([encoded[row] for row in batch])
        progress.advance(task, len(batch))
    _check_finite(values, texts)
    return _scores(model.card, values, sum(text.truncated for text in encoded))


def _remote(client: Client, card: ModelCard, place: str) -> ScoreTexts:
    def score(texts: Sequence[Text], progress: Progress) -> Scores:
        task = progress.add_task(f"score with {card.id} at {place}", total=len(texts))
        results: list[GroupScores] = []
        for reply in _replies(client, card.id, texts):
            results += reply
            progress.advance(task, len(reply))
        values = np.array([_members(*each) for each in zip(results, texts, strict=True)])
        _check_finite(values, texts)
        return _scores(card, values, sum(result.truncated[0] for result in results))

    return score


def _replies(client: Client, model: str, texts: Sequence[Text]) -> Iterator[list[GroupScores]]:
    """The results of some texts at a time, in order, with several requests under way."""
    pool = ThreadPoolExecutor(_CALLS)
    try:
        starts = range(0, len(texts), _CALL_TEXTS)
        calls = [pool.submit(_ask, client, model, texts[i : i + _CALL_TEXTS]) for i in starts]
        for call in calls:
            yield call.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _ask(client: Client, model: str, texts: Sequence[Text]) -> list[GroupScores]:
    groups = [
        {"prompt": _plain(text.prompt), "completions": [_plain(text.completion)]} for text in texts
    ]
    try:
        return client.score_groups(groups, model=model, members=True).results
    except AssayError as error:
        detail = _GROUP.sub(lambda match: texts[int(match[1])].where, error.detail)
        raise type(error)(detail) from error


def _members(result: GroupScores, text: Text) -> list[float]:
    (score,), members = result.scores, result.members
    if score is None:
        raise ScoringError(f"{text.where}: the server gives no score")
    return (members[0] if members is not None else None) or [score]


def _card(client: Client, model: str | None) -> ModelCard:
    if model is not None:
        return client.model(model)
    cards = client.models().data
    serving = [card for card in cards if "serving" in card.assay.alias]
    if not serving and len(cards) != 1:
        raise NotFoundError("the server serves no model, or several: name one")
    return (serving or cards)[0]


def _scores(card: ModelCard, values: Array, truncated: int) -> Scores:
    calibration = card.assay.calibration
    return Scores(
        model=card.id,
        temperature=calibration.temperature if calibration else 1.0,
        values=values,
        max_tokens=card.assay.max_tokens,
        truncated=truncated,
    )


def _check_finite(values: Array, texts: Sequence[Text]) -> None:
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        where = texts[int(wrong[0])].where
        raise ScoringError(f"{where}: the score is not finite ({len(wrong)} such texts)")


def _plain(text: Prompt | Completion) -> object:
    if isinstance(text, str):
        return text
    return [message.model_dump(exclude_unset=True) for message in text]
