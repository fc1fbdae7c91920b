"""What lives as long as a replica: the model, the batcher, the stores, the count of requests."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from assay.errors import ConflictError, DependencyError, NotFoundError, NotReadyError
from assay.rewards.aggregate import check_aggregate
from assay.schemas.refs import parse_pin
from assay.streams.baselines import BaselineStore
from assay.streams.connection import connect
from assay.streams.samples import SampleStream
from reward_server.batching import Batcher
from reward_server.engine.load import default_batch_tokens, warm_up_batches
from reward_server.metrics import ServerMetrics
from reward_server.scoring import ScoringPath

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

    from assay.models.scorer import Scorer
    from assay.schemas.models import ModelCard
    from assay.schemas.scoring import AggregateOptions
    from reward_server.settings import ServerSettings

_RETRY_AFTER_S = 1.0
_RETRY_AFTER_OPERATOR_S = 30.0  # somebody has to change a setting first


class Runtime:
    """One replica's state, handed to the routes through `app.state.runtime`."""

    def __init__(self, settings: ServerSettings, scorer: Scorer) -> None:
        self.settings = settings
        self.scorer = scorer
        self.replica = uuid.uuid4().hex[:8]
        self.metrics = ServerMetrics(CollectorRegistry(), self.replica, scorer.card.id)
        self._batcher = Batcher(
            scorer,
            max_batch_tokens=settings.max_batch_tokens or default_batch_tokens(),
            max_queue_texts=settings.max_queue_texts,
            cache_bytes=settings.cache_bytes,
            metrics=self.metrics,
        )
        self.scoring = ScoringPath(scorer, self._batcher, self.metrics, settings)
        url = settings.redis_url.get_secret_value() if settings.redis_url else None
        self._redis = connect(url) if url else None
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._state = "loading"

    @property
    def card(self) -> ModelCard:
        """The card of the serving version."""
        return self.scorer.card.model_copy(
            update={
                "assay": self.scorer.card.assay.model_copy(
                    update={"alias": ["serving"], "replicas": self.settings.replicas}
                )
            }
        )

    @property
    def stores(self) -> bool:
        """Whether this server has a Redis, be it up or down."""
        return self._redis is not None

    @property
    def baselines(self) -> BaselineStore:
        """The stored baselines.

        Raises:
            DependencyError: the server runs without Redis.
        """
        return BaselineStore(self._need_redis())

    @property
    def samples(self) -> SampleStream:
        """The stream of samples.

        Raises:
            DependencyError: the server runs without Redis.
        """
        return SampleStream(
            self._need_redis(),
            max_entries=self.settings.max_stream_entries,
            idempotency_ttl_s=self.settings.idempotency_ttl_s,
        )

    def _need_redis(self) -> Redis:
        if self._redis is None:
            raise DependencyError(
                "this server runs without Redis: set ASSAY_REDIS_URL",
                retry_after_s=_RETRY_AFTER_OPERATOR_S,
            )
        return self._redis

    async def start(self) -> None:
        """Warm up, and begin to answer; called once, on the event loop that serves."""
        await self._batcher.warm_up(warm_up_batches(self.scorer))
        await self._batcher.start()
        self._state = "ready"

    @property
    def in_flight(self) -> int:
        """Requests that were let in and are not answered yet."""
        return self._in_flight

    def check_ready(self) -> None:
        """Whether new work is taken.

        Raises:
            NotReadyError: still loading, or draining.
        """
        if self._state != "ready":
            raise NotReadyError(f"the server is {self._state}", retry_after_s=_RETRY_AFTER_S)

    def begin_request(self) -> None:
        """Count a request that was let in."""
        self._in_flight += 1
        self._idle.clear()
        self.metrics.in_flight.set(self._in_flight)

    def end_request(self) -> None:
        """Count it off."""
        self._in_flight -= 1
        self.metrics.in_flight.set(self._in_flight)
        if self._in_flight == 0:
            self._idle.set()

    async def drain(self, timeout_s: float) -> int:
        """Refuse new work and wait for what was accepted.

        Returns:
            Requests still unanswered when the time was up.
        """
        self._state = "draining"
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return self._in_flight
        return 0

    async def close(self) -> None:
        """Stop scoring and let go of threads and connections; a second call does nothing."""
        self._state = "stopped"
        await self._batcher.close()
        self.scoring.close()
        if self._redis is not None:
            await self._redis.aclose()

    def check_pins(self, pins: Iterable[str]) -> None:
        """Whether the version that a request asks for is the one that will answer.

        Raises:
            NotFoundError: another model's name.
            ConflictError: a version of this model that is not resident.
        """
        name, version = parse_pin(self.scorer.card.id)
        for text in pins:
            pin = parse_pin(text)
            if pin.name != name:
                raise NotFoundError(f"this server serves {name}, not {pin.name}")
            if pin.version not in (None, version):
                raise ConflictError(f"{name}@{pin.version} is not resident; {name}@{version} is")

    def check_aggregate(self, options: AggregateOptions) -> None:
        """Whether the model can give the aggregate that a request asks for.

        Raises:
            InvalidInputError: it has one member, or was never calibrated.
        """
        info = self.scorer.card.assay
        check_aggregate(options.aggregate, info.members, info.calibration is not None)
