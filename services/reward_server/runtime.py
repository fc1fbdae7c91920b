"""What lives as long as a replica: the model, the batcher, the stores, the count of requests."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from assay.errors import (
    ConflictError,
    DependencyError,
    InvalidInputError,
    NotReadyError,
    StartupError,
)
from assay.registry.promotions import Registry
from assay.rewards.aggregate import check_aggregate
from assay.schemas.refs import parse_pin
from assay.streams.baselines import BaselineStore
from assay.streams.connection import connect
from assay.streams.samples import SampleStream
from reward_server.metrics import ServerMetrics
from reward_server.reload.door import Door
from reward_server.reload.follower import Follower, Local
from reward_server.reload.leases import Leases
from reward_server.reload.live_clock import LiveClock
from reward_server.reload.prompts import PromptLog, prompt_keys
from reward_server.tap import Tap
from reward_server.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from redis.asyncio import Redis

    from assay.models.scorer import Scorer
    from assay.schemas.models import ModelCard
    from assay.schemas.text import Prompt
    from reward_server.composite.plan import Parts
    from reward_server.reload.source import VersionSource
    from reward_server.settings import ServerSettings
    from reward_server.versions import Resident

_RETRY_AFTER_S = 1.0
_RETRY_AFTER_OPERATOR_S = 30.0  # somebody has to change a setting first


class Runtime:
    """One replica's state, handed to the routes through `app.state.runtime`.

    Args:
        settings: what the operator chose.
        scorer: the version that serves at first.
        source: where other versions come from; None = the server serves this version only.
        parts: what else goes into the scores; None = nothing.

    Raises:
        StartupError: the setting `reward` asks for what this version cannot tell.
    """

    def __init__(
        self,
        settings: ServerSettings,
        scorer: Scorer,
        source: VersionSource | None = None,
        parts: Parts | None = None,
    ) -> None:
        self.settings = settings
        self.replica = uuid.uuid4().hex[:8]
        self.metrics = ServerMetrics(CollectorRegistry(), self.replica, scorer.card.id)
        self.versions = Versions(settings, self.metrics, scorer, parts)
        if settings.reward == "lcb":
            self._check_lower_bound()
        clock = LiveClock()
        self.door = Door(clock)
        self._prompts = PromptLog(settings.group_window_s, settings.quiet_ms / 1000, clock)
        self._leases = Leases(settings.pin_ttl_s)
        url = settings.redis_url.get_secret_value() if settings.redis_url else None
        self._redis = connect(url) if url else None
        self._source = source
        self._follower = self._make_follower(clock)
        self.tap = Tap(self._make_samples, self.metrics) if settings.tap and url else None
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._state = "loading"

    def _check_lower_bound(self) -> None:
        info = self.versions.serving.card.assay
        try:
            check_aggregate("lcb", info.members, calibrated=info.calibration is not None)
        except InvalidInputError as error:
            raise StartupError(f"reward lcb cannot be: {error.detail}") from None

    def _make_follower(self, clock: LiveClock) -> Follower | None:
        if self._redis is None or self._source is None:
            return None
        return Follower(
            Registry(self._redis, self.versions.name),
            self._source,
            self.settings,
            Local(self.replica, self.versions, self.door, self._prompts, self._leases, clock),
            self.metrics,
        )

    @property
    def follower(self) -> Follower:
        """What takes part in promotions.

        Raises:
            ConflictError: the server serves one version only.
            DependencyError: it runs without Redis.
        """
        if self._source is None:
            raise ConflictError(
                f"this server serves {self.versions.serving.card.id} only, as it was started with "
                f"a version or a folder: start it with --model {self.versions.name}"
            )
        self._need_redis()
        assert self._follower is not None  # noqa: S101 - there are a source and a Redis
        return self._follower

    @property
    def cards(self) -> list[ModelCard]:
        """The cards of the resident versions, with their aliases and replicas."""
        return [self._card(number) for number in self.versions.numbers]

    def card(self, pin: str) -> ModelCard:
        """The card of one resident version; of the serving one if the pin names none."""
        return self._card(self.versions.choose([pin]).version)

    def _card(self, version: int) -> ModelCard:
        resident = self.versions.get(version)
        assert resident is not None  # noqa: S101 - the caller has it from `versions`
        if self._follower is not None:
            aliases, replicas = self._follower.standing(version)
        else:
            aliases = ["serving"] if resident is self.versions.serving else []
            replicas = self.settings.replicas
        notes = [*resident.card.assay.notes, *self.versions.notes]
        standing = {"alias": aliases, "replicas": replicas, "notes": notes}
        info = resident.card.assay.model_copy(update=standing)
        return resident.card.model_copy(update={"assay": info})

    @contextmanager
    def answering(self, pins: Sequence[str], prompts: Iterable[Prompt]) -> Iterator[Resident]:
        """The version that answers a request: chosen once, and kept until the block ends.

        Args:
            pins: the versions that the request asks for.
            prompts: its prompts, whose groups a switch must not split.

        Raises:
            NotFoundError, ConflictError: see `Versions.choose`.
        """
        resident = self.versions.choose(pins)
        if any(parse_pin(pin).version is not None for pin in pins):
            self._lease(resident.version)
            with resident.in_use():
                yield resident
        elif self._follower is None:
            yield resident
        else:
            with self._in_group(prompt_keys(prompts), resident) as kept, kept.in_use():
                yield kept

    @contextmanager
    def _in_group(self, prompts: list[str], resident: Resident) -> Iterator[Resident]:
        kept_on = self._prompts.kept_on(prompts)
        if kept_on is not None:
            resident = self.versions.get(kept_on) or resident
        self.metrics.split_prompts.inc(self._prompts.begin(prompts, resident.version))
        try:
            yield resident
        finally:
            self._prompts.end(prompts)

    def _lease(self, version: int) -> None:
        if self._leases.touch(version) and self._follower is not None:
            self._follower.wake()

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
        return self._make_samples()

    def _make_samples(self) -> SampleStream:
        return SampleStream(
            self._need_redis(),
            max_entries=self.settings.max_stream_entries,
            idempotency_ttl_s=self.settings.idempotency_ttl_s,
        )

    def check_name(self, name: str) -> None:
        """Whether this server serves a name.

        Raises:
            NotFoundError: it is another model's.
        """
        self.versions.choose([name])

    def _need_redis(self) -> Redis:
        if self._redis is None:
            raise DependencyError(
                "this server runs without Redis: set ASSAY_REDIS_URL",
                retry_after_s=_RETRY_AFTER_OPERATOR_S,
            )
        return self._redis

    async def start(self) -> None:
        """Warm up, and begin to answer; called once, on the event loop that serves."""
        await self.versions.start()
        if self._follower is not None:
            await self._follower.start()
        if self.tap is not None:
            self.tap.start()
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
        if self._follower is not None:
            self._follower.drain()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return self._in_flight
        return 0

    async def close(self) -> None:
        """Stop scoring and let go of threads and connections; a second call does nothing."""
        self._state = "stopped"
        for part in (self._follower, self.tap, self.versions):
            if part is not None:
                await part.close()
        if self._redis is not None:
            await self._redis.aclose()
