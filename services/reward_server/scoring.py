"""One request on its way through encode, queue and infer: what every scoring route calls."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.errors import AssayError, DeadlineExceededError, FieldError, PayloadTooLargeError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from numpy.typing import NDArray

    from assay.models.scorer import EncodedInput, Scorer, Truncate
    from assay.schemas.scoring import ScoringOptions
    from assay.schemas.text import Completion, Prompt
    from reward_server.batching import Batcher
    from reward_server.metrics import ServerMetrics
    from reward_server.settings import ServerSettings


class Encoding(NamedTuple):
    """How one text becomes token ids, where it is not the request that says so.

    Attributes:
        raw: True = no chat template and no parsing.
        truncate: what to do if it is too long.
        max_tokens: the longest input, if below the model's own limit.
        ids: what is scored in place of prompt and completion: token ids, or a text that holds its
            special tokens and gets no others.
    """

    raw: bool = False
    truncate: Truncate = "left"
    max_tokens: int | None = None
    ids: str | tuple[int, ...] | None = None


class Text(NamedTuple):
    """One prompt with one completion, its label for rules, and where in the request it stands."""

    prompt: Prompt
    completion: Completion
    path: str
    finished: bool = True
    label: Any = None
    encoding: Encoding | None = None


class Scored(NamedTuple):
    """What came of a request's texts, in their order.

    Attributes:
        scores: raw scores, shape [texts, members].
        encoded: the token ids that were scored.
        components: of a composite, by name: weighted values, shape [texts], which sum to the mean
            over members. None = the model alone.
        absent: True for a text without a score, whose numbers mean nothing; shape [texts].
            None = every text has one.
    """

    scores: NDArray[np.float64]
    encoded: list[EncodedInput]
    components: dict[str, NDArray[np.float64]] | None = None
    absent: NDArray[np.bool_] | None = None

    @property
    def with_gaps(self) -> NDArray[np.float64]:
        """The scores, with NaN for a text without one."""
        if self.absent is None:
            return self.scores
        return np.where(self.absent[:, None], np.nan, self.scores)


def check_count(texts: int, settings: ServerSettings) -> None:
    """Refuse a request before any work is done for it.

    Raises:
        PayloadTooLargeError: more texts than a request may hold.
    """
    if texts > settings.max_request_texts:
        raise PayloadTooLargeError(
            f"{texts} texts, and a request takes {settings.max_request_texts}"
        )


class ScoringPath:
    """Encodes on `threads` and hands over to the batcher."""

    def __init__(
        self,
        scorer: Scorer,
        batcher: Batcher,
        threads: ThreadPoolExecutor,
        metrics: ServerMetrics,
        settings: ServerSettings,
    ) -> None:
        self._scorer = scorer
        self._batcher = batcher
        self._threads = threads
        self._metrics = metrics
        self._settings = settings

    async def score(self, texts: Sequence[Text], options: ScoringOptions) -> Scored:
        """Score the texts of one request by one version.

        Raises:
            PayloadTooLargeError: more texts than a request may hold.
            InvalidInputError: a text that this model does not take; its path is named.
            OverloadedError, DeadlineExceededError, ScoringError: see `Batcher.score`.
        """
        check_count(len(texts), self._settings)
        deadline_s = time.monotonic() + self._settings.request_timeout_s
        encoded = await self._encode_in_thread(texts, options)
        rows = await self._batcher.score(encoded, max(0.0, deadline_s - time.monotonic()))
        return Scored(rows, encoded)

    async def _encode_in_thread(
        self, texts: Sequence[Text], options: ScoringOptions
    ) -> list[EncodedInput]:
        timeout_s = self._settings.request_timeout_s
        given_up = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                return await loop.run_in_executor(
                    self._threads, self._encode, texts, options, given_up
                )
        except TimeoutError:
            raise DeadlineExceededError(f"not tokenized within {timeout_s:g} s") from None
        finally:
            given_up.set()

    def _encode(
        self, texts: Sequence[Text], options: ScoringOptions, given_up: threading.Event
    ) -> list[EncodedInput]:
        """All texts, or fewer once nobody waits for them any more."""
        with self._metrics.encode_seconds.time():
            return [
                self._encode_one(text, options)
                for text in itertools.takewhile(lambda _: not given_up.is_set(), texts)
            ]

    def _encode_one(self, text: Text, options: ScoringOptions) -> EncodedInput:
        how = text.encoding or Encoding(options.raw, options.truncate)
        try:
            if how.ids is not None:
                return self._scorer.encode_ids(
                    how.ids, truncate=how.truncate, max_tokens=how.max_tokens
                )
            return self._scorer.encode(
                text.prompt,
                text.completion,
                finished=text.finished,
                raw=how.raw,
                truncate=how.truncate,
                max_tokens=how.max_tokens,
            )
        except AssayError as error:
            raise type(error)(
                error.detail, fields=(FieldError(text.path, error.detail),)
            ) from error
