"""Promotions on Redis: the board and its compare-and-set, heartbeats, leases, events, hints."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from importlib.resources import files
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis

from assay.errors import ConflictError, DependencyError, ModelNotFoundError, NotReadyError
from assay.registry.aliases import Aliases
from assay.registry.fence import Fence, fenced
from assay.registry.records import (
    Board,
    Event,
    PromotedBy,
    Promotion,
    PromotionKind,
    ReplicaState,
    SwapWhen,
)
from assay.streams.connection import redis_errors

if TYPE_CHECKING:
    from assay.registry.store import Store

MEMBER_S = 5.0  # a replica that was not heard for so long is no member
EVENTS = "assay:events"
_FORGET_S = 60.0
_HISTORY_S = 24 * 3600
_MAX_EVENTS = 10_000
_HINT_WAIT_S = 1.0
_RETRY_AFTER_S = 1.0
_DAMAGED_S = 30.0  # somebody has to look

Record = TypeVar("Record", bound=BaseModel)
FenceSource = Callable[[], AbstractAsyncContextManager[Fence | None]]


class Registry:
    """The versions of one model on Redis; every method raises DependencyError while it is down.

    Args:
        redis: the connection.
        name: of the model.
        fence: entered for each change of the board, which is refused to who has been replaced.
    """

    def __init__(self, redis: Redis, name: str, fence: FenceSource = nullcontext) -> None:
        self.name = name
        self._redis, self._fence = redis, fence
        self._board = f"assay:board:{name}"
        self._heard = f"assay:heard:{name}"
        self._states = f"assay:replicas:{name}"
        self._leases = f"assay:leases:{name}"
        self._hints = f"assay:hints:{name}"
        self._swap_script = redis.register_script(_lua("swap_board"))
        self._heartbeat_script = redis.register_script(_lua("heartbeat"))
        self._lease_script = redis.register_script(_lua("lease"))
        self._told_s: tuple[float, float] | None = None  # Redis's time, and ours when it came

    @redis_errors()
    async def board(self) -> Board | None:
        """The board; None = Redis has none: see `rebuild`."""
        text = await self._redis.get(self._board)
        return None if text is None else _read(Board, text, self._board)

    async def swap(self, old: Board | None, new: Board, not_after_s: float | None = None) -> bool:
        """Put `new` in place of `old`, unless another has changed the board since.

        The promotion on it goes into the history in the same step, and a hint goes out.

        Args:
            old: the board as it was read; None = there was none.
            new: `old.changed(...)`.
            not_after_s: when it is too late, by Redis's clock; None = it never is.

        Raises:
            FencedError: another writer has taken over.
        """
        async with self._fence() as fence:
            reply = await self._swap(old, new, not_after_s, fence)
        if reply == "fenced":
            raise fenced()
        if reply == "lost":
            raise DependencyError("Redis has lost its data", retry_after_s=_RETRY_AFTER_S)
        return reply == "done"

    @redis_errors()
    async def _swap(
        self, old: Board | None, new: Board, not_after_s: float | None, fence: Fence | None
    ) -> str:
        promotion = new.promotion
        keys = [self._board, _history(promotion.id if promotion else "")]
        reply: str = await self._swap_script(
            keys=keys if fence is None else [*keys, fence.key],
            args=[
                "" if old is None else str(old.revision),
                new.model_dump_json(),
                promotion.model_dump_json() if promotion else "",
                str(_HISTORY_S),
                self._hints,
                "" if not_after_s is None else f"{not_after_s:.6f}",
                "" if fence is None else str(fence.token),
            ],
        )
        return reply

    @redis_errors()
    async def promotion(self, id_: str) -> Promotion | None:
        """A promotion of the last 24 hours."""
        text = await self._redis.get(_history(id_))
        return None if text is None else _read(Promotion, text, _history(id_))

    @redis_errors()
    async def now_s(self) -> float:
        """Redis's clock, in Unix seconds."""
        return _seconds(await self._redis.time())

    @redis_errors()
    async def heartbeat(self, state: ReplicaState) -> None:
        """Tell what a replica does; `at_s` is set by Redis."""
        time: Any = await self._heartbeat_script(
            keys=[self._heard, self._states],
            args=[state.replica, state.model_dump_json(), str(_FORGET_S)],
        )
        self._told_s = _seconds((int(time[0]), int(time[1]))), monotonic()

    def redis_s(self, local_s: float) -> float:
        """A moment of `time.monotonic` by Redis's clock, or earlier: the reply took its time.

        Args:
            local_s: the moment; 0 is returned before the first heartbeat.
        """
        return 0.0 if self._told_s is None else self._told_s[0] + local_s - self._told_s[1]

    @redis_errors()
    async def replicas(self) -> list[ReplicaState]:
        """The members: replicas heard within `MEMBER_S`, by name."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.zrange(self._heard, 0, -1, withscores=True)
            pipe.hgetall(self._states)
            time, heard, states = await pipe.execute()
        now_s = _seconds(time)
        return [
            _read(ReplicaState, states[name], self._states).model_copy(update={"at_s": at_s})
            for name, at_s in sorted(heard)
            if now_s - at_s < MEMBER_S and name in states
        ]

    @redis_errors()
    async def leave(self, replica: str) -> None:
        """Forget a replica that ends in order."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(self._heard, replica)
            pipe.hdel(self._states, replica)
            await pipe.execute()

    @redis_errors()
    async def lease(self, version: int, ttl_s: float) -> None:
        """Have all replicas keep a version for `ttl_s`; a lease is never shortened."""
        await self._lease_script(keys=[self._leases], args=[str(version), str(ttl_s)])

    @redis_errors()
    async def leases(self) -> set[int]:
        """The versions under lease."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.zrange(self._leases, 0, -1, withscores=True)
            time, leases = await pipe.execute()
        now_s = _seconds(time)
        return {int(version) for version, end_s in leases if end_s > now_s}

    @redis_errors()
    async def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Append to the stream `assay:events`, which keeps the last ten thousand or so."""
        entry = {"name": self.name, "kind": kind, "fields": json.dumps(dict(fields))}
        await self._redis.xadd(EVENTS, entry, maxlen=_MAX_EVENTS, approximate=True)  # type: ignore[arg-type]

    @redis_errors()
    async def events(self, after: str = "-", count: int = 1000) -> list[Event]:
        """The events behind a stream id, those of other models included; `-` = from the first."""
        start = after if after == "-" else f"({after}"
        entries: Any = await self._redis.xrange(EVENTS, min=start, count=count)
        return [_event(id_, entry) for id_, entry in entries]

    @redis_errors()
    async def hint(self) -> None:
        """Wake the listeners, for a change that is not on the board; `swap` does so itself."""
        await self._redis.publish(self._hints, "hint")

    async def hints(self) -> AsyncGenerator[None]:
        """One item for each hint; ends with DependencyError when the connection breaks."""
        async with self._redis.pubsub() as listener:
            async with redis_errors():
                await listener.subscribe(self._hints)
            while True:
                async with redis_errors():
                    message = await listener.get_message(
                        ignore_subscribe_messages=True, timeout=_HINT_WAIT_S
                    )
                if message is not None:
                    yield None


async def propose(
    registry: Registry,
    version: int | None,
    kind: PromotionKind,
    by: PromotedBy,
    swap_when: SwapWhen,
    timeout_s: float,
    epoch: int | None = None,
) -> Promotion:
    """Begin a promotion.

    Args:
        registry: of the model.
        version: None for a rollback, which goes to the previous version.
        kind: `rollback` = back to the previous version.
        by: a promotion by a person moves the anchor.
        swap_when: `quiet` or `now`.
        timeout_s: time for all replicas to load the version.
        epoch: of the aliases on which the choice of the version rests; None = of any.

    Raises:
        ConflictError: another one is under way, the version serves already, there is none to roll
            back to, or `serving` has moved since `epoch`.
        FencedError: see `Registry`.
        NotReadyError: there is no board: no server has come up yet.
    """
    while True:
        board = await registry.board()
        if board is None:
            raise NotReadyError(
                f"no server of {registry.name} has come up yet", retry_after_s=_RETRY_AFTER_S
            )
        if epoch not in (None, board.aliases.epoch):
            raise ConflictError(
                f"{registry.name}@{board.aliases.serving} has come to serve at epoch "
                f"{board.aliases.epoch}, and not at {epoch}: look again before promoting"
            )
        now_s = await registry.now_s()
        promotion = Promotion(
            id=uuid.uuid4().hex[:16],
            name=registry.name,
            version=_target(board, registry.name, version, kind),
            kind=kind,
            by=by,
            swap_when=swap_when,
            epoch=board.aliases.epoch + 1,
            created_s=now_s,
            deadline_s=now_s + timeout_s,
        )
        if await registry.swap(board, board.changed(promotion=promotion)):
            return promotion


def _target(board: Board, name: str, version: int | None, kind: PromotionKind) -> int:
    active, aliases = board.active, board.aliases
    if active is not None:
        raise ConflictError(
            f"promotion {active.id} of {name}@{active.version} is under way ({active.state})",
            retry_after_s=_RETRY_AFTER_S,
        )
    target = aliases.previous if kind == "rollback" else version
    if target is None:
        raise ConflictError(f"there is no previous version of {name} to roll back to")
    if target == aliases.serving:
        raise ConflictError(f"{name}@{target} is serving already")
    return target


async def set_candidate(registry: Registry, store: Store, version: int | None) -> None:
    """Move the alias `candidate`, on the board and in the store; what serves is no candidate."""
    # The board first: a flip in between writes the board's aliases to the store.
    while (board := await registry.board()) is not None:
        changed = board.changed(aliases=board.aliases.with_candidate(version))
        if changed.aliases == board.aliases or await registry.swap(board, changed):
            break
    await asyncio.to_thread(
        store.update_aliases, registry.name, lambda stored: stored.with_candidate(version)
    )


async def rebuild(registry: Registry, store: Store, serving: int | None = None) -> Board:
    """The board; where Redis has none, a new one from the store's aliases.

    Where the store has none either, they are written: from then on only promotions move them.

    Args:
        registry: of the model.
        store: where its aliases are.
        serving: what serves if the store does not say; None = the newest released version.

    Raises:
        ModelNotFoundError: there is no version at all.
    """
    board = await registry.board()
    while board is None:
        change = partial(_first, store, registry.name, serving)
        aliases = await asyncio.to_thread(store.update_aliases, registry.name, change)
        # Above every revision that was there before Redis lost it.
        revision = int(await registry.now_s() * 1e6)
        await registry.swap(None, Board(revision=revision, aliases=aliases))
        board = await registry.board()
    return board


def _first(store: Store, name: str, serving: int | None, stored: Aliases) -> Aliases:
    if stored.serving is not None:
        return stored
    version = serving if serving is not None else store.newest(name)
    if version is None:
        raise ModelNotFoundError(f"the store {store.url} has no released version of {name}")
    return stored.model_copy(update={"serving": version, "anchor": stored.anchor or version})


def _read(record: type[Record], text: str | bytes, key: str) -> Record:
    try:
        return record.model_validate_json(text)
    except ValidationError:
        raise _damaged(key) from None


def _event(id_: str, entry: Mapping[str, str]) -> Event:
    try:
        return Event.model_validate({"id": id_, **entry})
    except ValidationError:
        raise _damaged(EVENTS) from None


def _damaged(key: str) -> DependencyError:
    return DependencyError(f"{key} in Redis is damaged: delete it", retry_after_s=_DAMAGED_S)


def _history(id_: str) -> str:
    return f"assay:promotion:{id_}"


def _seconds(time: tuple[int, int]) -> float:
    return time[0] + time[1] / 1e6


def _lua(name: str) -> str:
    return files("assay.registry").joinpath(f"{name}.lua").read_text(encoding="utf-8")
