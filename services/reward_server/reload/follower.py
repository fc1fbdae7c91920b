"""A replica's part in promotions: it tells what it holds, follows the board, and moves it on.

Any replica may move the board, by compare-and-set; `assay.registry.protocol.advance` decides how.
Nothing here is in the way of a score request but the door, and that opens by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from assay.errors import (
    AssayError,
    ConflictError,
    DependencyError,
    ModelNotFoundError,
    NotFoundError,
)
from assay.registry.promotions import MEMBER_S, propose, rebuild
from assay.registry.protocol import Limits, advance, not_after_s
from assay.registry.records import ReplicaState
from assay.schemas.refs import ModelRef
from reward_server.reload.door import HOLD_S
from reward_server.reload.loader import Loader
from reward_server.reload.record import AliasRecord
from reward_server.reload.residency import Residency
from reward_server.tasks import end

if TYPE_CHECKING:
    from assay.registry.promotions import Registry
    from assay.registry.records import Board, Promotion, PromotionKind, SwapWhen
    from reward_server.metrics import ServerMetrics
    from reward_server.reload.door import Door
    from reward_server.reload.leases import Leases
    from reward_server.reload.live_clock import LiveClock
    from reward_server.reload.prompts import PromptLog
    from reward_server.reload.source import VersionSource
    from reward_server.settings import ServerSettings
    from reward_server.versions import Versions

logger = logging.getLogger(__name__)

_POLL_S = 1.0
_POLL_ACTIVE_S = 0.05  # while a promotion is under way
_STORE_PATIENCE_S = 10.0  # then a promotion is done although the store does not hold it yet


class Local(NamedTuple):
    """What the follower of one replica moves."""

    replica: str
    versions: Versions
    door: Door
    prompts: PromptLog
    leases: Leases
    clock: LiveClock


class Hold(NamedTuple):
    """A closed door: for which epoch, and how things stood when it closed."""

    epoch: int
    idle_ms: float
    recent: list[str]


class Follower:
    """Follows the board of one name."""

    def __init__(
        self,
        registry: Registry,
        source: VersionSource,
        settings: ServerSettings,
        local: Local,
        metrics: ServerMetrics,
    ) -> None:
        self._registry = registry
        self._store = source.store
        self._record = AliasRecord(source.store, local.versions.name)
        self._settings = settings
        self._local = local
        self._metrics = metrics
        self._limits = Limits(settings.quiet_ms, settings.quiet_deadline_s, HOLD_S)
        loader = Loader(source, local.versions, settings.max_resident_bytes)
        self._residency = Residency(loader, local.versions)
        self._aliases = source.aliases
        self._promotion: Promotion | None = None
        self._replicas: list[ReplicaState] = []
        self._hold: Hold | None = None
        self._is_draining = False
        self._is_cut_off = False
        self._decides_from_s = 0.0  # after a break the others' heartbeats may be late as well
        self._wake = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to follow; returns when this replica holds what the others hold."""
        self._tasks = [
            asyncio.create_task(self._run(), name="follower"),
            asyncio.create_task(self._listen(), name="hints"),
            asyncio.create_task(self._local.clock.run(), name="clock"),
        ]
        await self._caught_up.wait()

    async def close(self) -> None:
        """Stop following, and tell the others."""
        await asyncio.gather(*(end(task) for task in self._tasks))
        self._local.door.open()
        await self._residency.close()
        await self._record.close()
        if self._tasks:
            with contextlib.suppress(AssayError):
                await self._registry.leave(self._local.replica)

    def wake(self) -> None:
        """Look at the board at once."""
        self._wake.set()

    def standing(self, version: int) -> tuple[list[str], int]:
        """The aliases of a version and the replicas that hold it, as last heard."""
        others = {
            state.replica
            for state in self._replicas
            if version in state.resident and state.replica != self._local.replica
        }
        here = self._local.versions.get(version) is not None
        return list(self._aliases.of(version)), len(others) + here

    async def propose(
        self,
        kind: PromotionKind,
        version: int | None,
        swap_when: SwapWhen | None,
        *,
        force: bool = False,
    ) -> Promotion:
        """Begin a promotion or rollback on behalf of a person.

        Args:
            kind: which of them.
            version: to promote; None in a rollback.
            swap_when: None = as the server is set.
            force: also a version that the gate has rejected.

        Raises:
            NotFoundError: the version is neither in the store nor resident.
            ConflictError: the gate has rejected it; or see `assay.registry.promotions.propose`.
        """
        if version is not None and self._local.versions.get(version) is None:
            await self._check_candidate(version, force=force)
        promotion = await propose(
            self._registry,
            version,
            kind,
            "person",
            swap_when or self._settings.swap_when,
            self._settings.prepare_timeout_s,
        )
        self.wake()
        return promotion

    async def _check_candidate(self, version: int, *, force: bool) -> None:
        ref = ModelRef(self._local.versions.name, version)
        try:
            manifest = await asyncio.to_thread(self._store.manifest, ref)
        except ModelNotFoundError as error:
            raise NotFoundError(error.detail) from error
        if manifest.status == "rejected" and not force:
            raise ConflictError(
                f"{ref} was rejected by the gate: `assay models show {ref}` says why, and with "
                "force=true it serves all the same"
            )

    async def promotion(self, identifier: str) -> Promotion:
        """A promotion, as far as it has come.

        Raises:
            NotFoundError: there was none of that id within a day.
        """
        found = await self._registry.promotion(identifier)
        if found is None:
            raise NotFoundError("no promotion of that id in the last day")
        return found

    async def outcome(self, begun: Promotion, wait_s: float) -> Promotion:
        """A promotion once it has ended, or as last heard when the wait is over."""
        ends_s = time.monotonic() + wait_s
        seen = begun
        while seen.active and time.monotonic() < ends_s and not self._is_draining:
            await asyncio.sleep(_POLL_ACTIVE_S)
            with contextlib.suppress(DependencyError):
                seen = await self.promotion(begun.id)
        return seen

    def drain(self) -> None:
        """Let nobody wait for a promotion any more."""
        self._is_draining = True

    async def _run(self) -> None:
        while True:
            await self._try_step()
            active = self._promotion is not None and self._promotion.active
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_ACTIVE_S if active else _POLL_S):
                    await self._wake.wait()

    async def _try_step(self) -> None:
        try:
            await self._step()
        except AssayError as error:
            if not self._is_cut_off:
                logger.warning("not following for now", extra={"reason": error.detail})
            self._is_cut_off = True
            self._decides_from_s = time.monotonic() + MEMBER_S
            self._caught_up.set()  # with the version in hand
        except Exception:
            logger.exception("a step of the follower failed")
            self._caught_up.set()
        else:
            self._is_cut_off = False

    async def _listen(self) -> None:
        while True:
            try:
                async for _ in self._registry.hints():
                    self._wake.set()
            except AssayError:
                await asyncio.sleep(_POLL_S)  # the board is polled all the same

    async def _step(self) -> None:
        board = await self._registry.board() or await self._rebuild()
        leased = await self._exchange_leases()
        self._follow(board, leased)
        await self._registry.heartbeat(self._state())
        self._replicas = await self._registry.replicas()
        if self._residency.is_settled:
            self._caught_up.set()
        if board.active is not None and time.monotonic() >= self._decides_from_s:
            await self._move_on(board)

    async def _rebuild(self) -> Board:
        """A board for a Redis that has lost it; the store must not be behind what serves here."""
        name, serving = self._local.versions.name, self._local.versions.serving.version
        stored = await asyncio.to_thread(self._store.aliases, name)
        if self._aliases.epoch > stored.epoch:
            await asyncio.to_thread(self._store.write_aliases, name, self._aliases)
        return await rebuild(self._registry, self._store, serving)

    async def _exchange_leases(self) -> set[int]:
        leases = self._local.leases
        for version in leases.due():
            await self._registry.lease(version, self._settings.pin_ttl_s)
            leases.told(version)
        return leases.held() | await self._registry.leases()

    def _follow(self, board: Board, leased: set[int]) -> None:
        aliases, promotion = board.aliases, board.active
        if promotion is not None and (not self._promotion or promotion.id != self._promotion.id):
            self._residency.give_another_try(promotion.version)
        self._promotion = promotion
        coming = None if promotion is None else promotion.version
        needed = _present(aliases.serving, coming) | leased
        spare = aliases.previous if aliases.previous not in needed else None
        self._residency.want(needed | _present(spare), leased, spare)
        self._switch(board)
        self._attend_door(promotion)

    def _switch(self, board: Board) -> None:
        """Let the board's version serve, if it is here; else it is being loaded."""
        aliases, versions = board.aliases, self._local.versions
        if aliases == self._aliases or aliases.serving is None:
            return
        if versions.get(aliases.serving) is None:
            return
        before = versions.serving.version
        versions.switch(aliases.serving, aliases.previous)
        self._aliases = aliases
        self._record.want(aliases)
        if aliases.serving != before:
            self._local.prompts.keep(self._staying(board), before)
            self._metrics.switches.inc()
            logger.info("switched", extra={"version": aliases.serving, "epoch": aliases.epoch})

    def _staying(self, board: Board) -> list[str]:
        """Prompts whose groups go on with the version before: the flip's, and what came since."""
        promotion = board.promotion
        if promotion is None or promotion.swap_when == "now":
            return []
        return [*promotion.stay, *self._local.prompts.active()]

    def _attend_door(self, promotion: Promotion | None) -> None:
        door = self._local.door
        if promotion is None or promotion.state != "hold":
            door.open()
            self._hold = None
            return
        if self._hold is None or self._hold.epoch != promotion.epoch or door.is_open:
            recent = self._local.prompts.lately()
            self._hold = Hold(promotion.epoch, door.idle_s * 1000, recent)
        door.close()

    def _state(self) -> ReplicaState:
        local, hold = self._local, self._hold
        if hold is not None and local.door.is_open:
            hold = None  # it opened itself
        return ReplicaState(
            replica=local.replica,
            epoch=self._aliases.epoch,
            resident=local.versions.numbers,
            failed=self._residency.failed,
            in_flight=local.door.in_flight,
            idle_ms=local.door.idle_s * 1000 if hold is None else hold.idle_ms,
            held=None if hold is None else hold.epoch,
            held_until_s=0.0 if hold is None else self._registry.redis_s(local.door.closed_until_s),
            recent=[] if hold is None else hold.recent,
        )

    async def _move_on(self, board: Board) -> None:
        after = advance(board, self._replicas, await self._registry.now_s(), self._limits)
        if after is None or after.promotion is None:
            return
        is_settled = self._record.is_settled(after.aliases.epoch, _STORE_PATIENCE_S)
        if after.promotion.state == "done" and not is_settled:
            return
        if await self._registry.swap(
            board, after, not_after_s(after, self._replicas, self._limits)
        ):
            await self._tell(after.promotion)
            self.wake()

    async def _tell(self, promotion: Promotion) -> None:
        logger.info("promotion", extra={"id": promotion.id, "state": promotion.state})
        if not promotion.active:
            fields = promotion.model_dump(include={"id", "version", "kind", "by", "reason"})
            await self._registry.event(f"promotion_{promotion.state}", fields)


def _present(*versions: int | None) -> set[int]:
    return {version for version in versions if version is not None}
