"""One request on its way through encode, queue and infer: what every scoring route calls."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.errors import AssayError, DeadlineExceededError, FieldError, PayloadTooLargeError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from numpy.typing import NDArray

    from assay.models.scorer import EncodedInput, Scorer, Truncate
    from assay.schemas.scoring import ScoringOptions
    from assay.schemas.text import Completion, Prompt
    from reward_server.batching import Batcher
    from reward_server.metrics import ServerMetrics
    from reward_server.settings import ServerSettings


class Text(NamedTuple):
    """One prompt with one completion, and where in the request it stands.

    Attributes:
        path: where it stands, for errors.
        finished: False = the token limit cut the completion.
        label: what rules compare it with.
        literal: what is scored in their place: token ids, or a text with its special tokens in it.
        truncate: what to do with this text if it is too long; None = what the request says.
        limit: the most of its tokens that are scored; None = what the model takes.
    """

    prompt: Prompt
    completion: Completion
    path: str
    finished: bool = True
    label: Any = None
    literal: str | tuple[int, ...] | None = None
    truncate: Truncate | None = None
    limit: int | None = None


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
        if len(texts) > self._settings.max_request_texts:
            raise PayloadTooLargeError(
                f"{len(texts)} texts, and a request takes {self._settings.max_request_texts}"
            )
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
        truncate = text.truncate or options.truncate
        try:
            if text.literal is not None:
                return self._scorer.encode_literal(
                    text.literal, truncate=truncate, limit=text.limit
                )
            return self._scorer.encode(
                text.prompt,
                text.completion,
                finished=text.finished,
                raw=options.raw,
                truncate=truncate,
                limit=text.limit,
            )
        except AssayError as error:
            raise type(error)(
                error.detail, fields=(FieldError(text.path, error.detail),)
            ) from error
