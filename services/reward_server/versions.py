"""The versions that a replica can score with, and which of them serves.

Each has its own queue and score cache, so that no batch and no cached score mixes two of them; the
threads are shared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from assay.errors import ConflictError, NotFoundError
from assay.rewards.aggregate import check_aggregate
from assay.schemas.refs import parse_pin
from reward_server.batching import Batcher
from reward_server.composite.path import Composite
from reward_server.engine.load import default_batch_tokens, warm_up_batches
from reward_server.scoring import ScoringPath

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assay.models.scorer import Scorer
    from assay.schemas.models import ModelCard
    from assay.schemas.scoring import AggregateOptions
    from reward_server.composite.path import CompositePath
    from reward_server.composite.plan import Parts
    from reward_server.metrics import ServerMetrics
    from reward_server.settings import ServerSettings

ENCODERS = 2


class Resident:
    """One loaded version: what scores a request from its first text to its last.

    Attributes:
        scorer: the version itself.
        model_scoring: its scores alone.
        scoring: what is served: its scores, or those of the composite around it.
    """

    def __init__(self, scorer: Scorer, batcher: Batcher, model_scoring: ScoringPath) -> None:
        self.scorer = scorer
        self.model_scoring = model_scoring
        self.scoring: ScoringPath | CompositePath = model_scoring
        self._batcher = batcher
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def card(self) -> ModelCard:
        """Its model card, without aliases: they move."""
        return self.scorer.card

    @property
    def version(self) -> int:
        """Its number."""
        return version_of(self.scorer)

    async def start(self) -> None:
        """Warm up, and begin to score."""
        await self._batcher.warm_up(warm_up_batches(self.scorer))
        await self._batcher.start()

    @contextmanager
    def in_use(self) -> Iterator[Resident]:
        """Keep it from being closed."""
        self._users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if self._users == 0:
                self._unused.set()

    async def retire(self) -> None:
        """Close it once the last request that it answers is done."""
        try:
            await self._unused.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop scoring."""
        await self._batcher.close()

    def check_aggregate(self, options: AggregateOptions) -> None:
        """Whether this version can give the aggregate that a request asks for.

        Raises:
            InvalidInputError: it has one member, or was never calibrated.
        """
        info = self.card.assay
        check_aggregate(options.aggregate, info.members, info.calibration is not None)


class Versions:
    """The resident versions of one name.

    Args:
        first: the version that serves until another one is switched to.
        parts: what else goes into the scores; None = nothing.

    Raises:
        ModelLoadError: the first version does not fit into the composite.
    """

    def __init__(
        self,
        settings: ServerSettings,
        metrics: ServerMetrics,
        first: Scorer,
        parts: Parts | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._infer = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._encode = ThreadPoolExecutor(ENCODERS, thread_name_prefix="encode")
        self._residents: dict[int, Resident] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self.name = parse_pin(first.card.id).name
        self.previous: Resident | None = None
        self._composite = None if parts is None else self._compose(parts)
        self.serving = self._admit(first)

    async def start(self) -> None:
        """Warm up the first version and what goes with it, and begin to score."""
        await self.serving.start()
        if self._composite is not None:
            await self._composite.start()

    @property
    def numbers(self) -> list[int]:
        """The resident versions, lowest first."""
        return sorted(self._residents)

    @property
    def scorers(self) -> list[Scorer]:
        """All that is loaded: the resident versions, and what stays beside them."""
        beside = [] if self._composite is None else self._composite.scorers
        return [*(resident.scorer for resident in self._residents.values()), *beside]

    @property
    def notes(self) -> list[str]:
        """What a user should know of the scores beside what the version's card says."""
        return [] if self._composite is None else [self._composite.note]

    def get(self, version: int) -> Resident | None:
        """A resident version, or None."""
        return self._residents.get(version)

    def choose(self, pins: Iterable[str]) -> Resident:
        """The version that a request with these pins gets; without any, the serving one.

        Raises:
            NotFoundError: another model's name.
            ConflictError: a version that is not resident, or two different ones.
        """
        wanted = {self._pinned(pin) for pin in pins} - {None}
        if len(wanted) > 1:
            raise ConflictError("the request is pinned to two versions at once")
        version = wanted.pop() if wanted else None
        return self.serving if version is None else self._residents[version]

    def _pinned(self, text: str) -> int | None:
        name, version = parse_pin(text)
        if name != self.name:
            raise NotFoundError(f"this server serves {self.name}, not {name}")
        if version is not None and version not in self._residents:
            there = ", ".join(f"{name}@{number}" for number in self.numbers)
            raise ConflictError(f"{name}@{version} is not resident; there is {there}")
        return version

    async def add(self, scorer: Scorer) -> None:
        """Make a version resident: warm and ready to answer, beside those that are."""
        resident = self._make(scorer)
        await resident.start()
        self._residents[resident.version] = resident

    def remove(self, version: int) -> asyncio.Task[None]:
        """Offer a version to no further request; never the serving one.

        Returns:
            What ends when the last request that it answers is done and it is closed.
        """
        if version == self.serving.version:
            raise ConflictError(f"{self.name}@{version} serves")
        resident = self._residents.pop(version)
        if self.previous is resident:
            self.previous = None
        retiring = asyncio.create_task(resident.retire(), name=f"retire {version}")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
        return retiring

    def switch(self, serving: int, previous: int | None) -> None:
        """Let a resident version serve from the next request on."""
        self.serving = self._residents[serving]
        self.previous = None if previous is None else self._residents.get(previous)
        self._metrics.name_model(self.serving.card.id)

    async def close(self) -> None:
        """Stop scoring and let go of the threads."""
        for retiring in self._retiring:
            retiring.cancel()
        closing = (resident.close() for resident in self._residents.values())
        await asyncio.gather(*closing, *self._retiring, return_exceptions=True)
        if self._composite is not None:
            await self._composite.close()
        for threads in (self._infer, self._encode):
            threads.shutdown(wait=False, cancel_futures=True)

    def _admit(self, scorer: Scorer) -> Resident:
        resident = self._make(scorer)
        self._residents[resident.version] = resident
        return resident

    def _compose(self, parts: Parts) -> Composite:
        beside = {name: self._load(scorer) for name, scorer in parts.companions.items()}
        return Composite(parts.plan, beside, self._settings, self._metrics)

    def _make(self, scorer: Scorer) -> Resident:
        resident = self._load(scorer)
        if self._composite is not None:
            resident.scoring = self._composite.around(resident.model_scoring, resident.card)
        return resident

    def _load(self, scorer: Scorer) -> Resident:
        batcher = Batcher(
            scorer,
            self._infer,
            max_batch_tokens=self._settings.max_batch_tokens or default_batch_tokens(),
            max_queue_texts=self._settings.max_queue_texts,
            cache_bytes=self._settings.cache_bytes,
            metrics=self._metrics,
        )
        scoring = ScoringPath(scorer, batcher, self._encode, self._metrics, self._settings)
        return Resident(scorer, batcher, scoring)


def version_of(scorer: Scorer) -> int:
    """The number of a loaded version."""
    version = parse_pin(scorer.card.id).version
    if version is None:
        raise ValueError(f"{scorer.card.id} names no version")
    return version
