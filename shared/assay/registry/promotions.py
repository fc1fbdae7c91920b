"""Promotions on Redis: the board and its compare-and-set, heartbeats, leases, events, hints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from assay.registry.records import (
    Board,
    Event,
    PromotedBy,
    Promotion,
    PromotionKind,
    ReplicaState,
    SwapWhen,
)

if TYPE_CHECKING:
    from assay.registry.store import Store

MEMBER_S = 5.0  # a replica that was not heard for so long is no member


class Registry:
    """The versions of one model on Redis; every method raises DependencyError while it is down."""

    def __init__(self, redis: Redis, name: str) -> None:
        self.name = name
        self._redis = redis

    async def board(self) -> Board | None:
        """The board; None = Redis has none: see `rebuild`."""
        raise NotImplementedError

    async def swap(self, old: Board | None, new: Board) -> bool:
        """Put `new` in place of `old`, unless another has changed the board since.

        The promotion on it goes into the history in the same step, and a hint goes out.

        Args:
            old: the board as it was read; None = there was none.
            new: `old.changed(...)`.
        """
        raise NotImplementedError

    async def promotion(self, id_: str) -> Promotion | None:
        """A promotion of the last 24 hours."""
        raise NotImplementedError

    async def now_s(self) -> float:
        """Redis's clock, in Unix seconds."""
        raise NotImplementedError

    async def heartbeat(self, state: ReplicaState) -> None:
        """Tell what a replica does; `at_s` is set by Redis."""
        raise NotImplementedError

    async def replicas(self) -> list[ReplicaState]:
        """The members: replicas heard within `MEMBER_S`, by name."""
        raise NotImplementedError

    async def leave(self, replica: str) -> None:
        """Forget a replica that ends in order."""
        raise NotImplementedError

    async def lease(self, version: int, ttl_s: float) -> None:
        """Have all replicas keep a version for `ttl_s`; a lease is never shortened."""
        raise NotImplementedError

    async def leases(self) -> set[int]:
        """The versions under lease."""
        raise NotImplementedError

    async def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Append to the stream `assay:events`, which keeps the last ten thousand or so."""
        raise NotImplementedError

    async def events(self, after: str = "0", count: int = 1000) -> list[Event]:
        """The events behind a stream id, those of other models included."""
        raise NotImplementedError

    async def hint(self) -> None:
        """Wake the listeners: the board has changed."""
        raise NotImplementedError

    def hints(self) -> AsyncIterator[None]:
        """One item for each hint; ends with DependencyError when the connection breaks."""
        raise NotImplementedError


async def propose(
    registry: Registry,
    version: int | None,
    kind: PromotionKind,
    by: PromotedBy,
    swap_when: SwapWhen,
    timeout_s: float,
) -> Promotion:
    """Begin a promotion.

    Args:
        registry: of the model.
        version: None for a rollback, which goes to the previous version.
        kind: `rollback` = back to the previous version.
        by: a promotion by a person moves the anchor.
        swap_when: `quiet` or `now`.
        timeout_s: time for all replicas to load the version.

    Raises:
        ConflictError: another one is under way, the version serves already, or there is none to
            roll back to.
        NotReadyError: there is no board: no server has come up yet.
    """
    raise NotImplementedError


async def set_candidate(registry: Registry, store: Store, version: int | None) -> None:
    """Move the alias `candidate`, on the board and in the store."""
    raise NotImplementedError


async def rebuild(registry: Registry, store: Store, serving: int | None = None) -> Board:
    """The board; where Redis has none, a new one from the store's aliases.

    Args:
        registry: of the model.
        store: where its aliases are.
        serving: what serves if the store has no aliases; None = the newest released version.
    """
    raise NotImplementedError
