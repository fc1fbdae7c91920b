"""One trainer at a time: a lease with a growing token, which every write of a trainer carries."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from importlib.resources import files

from redis.asyncio import Redis

from assay.errors import DependencyError
from assay.registry.fence import Fence, FencedError, fenced
from assay.streams.connection import redis_errors

LEASE = "assay:trainer:lease"
TOKEN = "assay:trainer:token"  # noqa: S105 - a counter
_POLL_S = 0.5
_LUA = files("reward_trainer.online").joinpath("lease.lua")
_LOG = logging.getLogger(__name__)


class Lease:
    """The right to train, held by one process.

    Args:
        redis: where it is kept.
        ttl_s: after so long without renewal another trainer may take over.
        newest: gives the token of the newest checkpoint. It outlives Redis's data, and another
            trainer may have written it: a new token exceeds it, and an old one falls behind it.
    """

    def __init__(self, redis: Redis, ttl_s: float, newest: Callable[[], int]) -> None:
        self._take = redis.register_script(_LUA.read_text(encoding="utf-8"))
        self._ttl_s, self._newest = ttl_s, newest
        self.token = 0
        # One command with the token at a time: where Redis has lost it, a renewal brings a new one,
        # and a command that is under way with the old one would look like that of another trainer.
        self.turn = asyncio.Lock()

    async def take(self) -> bool:
        """Take or renew the lease; also after Redis has lost it.

        Returns:
            Whether it is ours.

        Raises:
            FencedError: another trainer has taken it since.
            DependencyError: Redis does not answer.
        """
        async with self.turn:
            newest = self._newest()
            if 0 < self.token < newest:
                raise fenced()
            outcome, value = await self._run(newest, ttl_ms=round(self._ttl_s * 1000))
            if outcome == "fenced" or (outcome == "taken" and self.token):
                raise fenced()
            if outcome == "held":
                self.token = int(value)
            return bool(outcome == "held")

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[Fence]:
        """What a write elsewhere has to carry; it stays valid until the write is done.

        Raises:
            FencedError: another trainer has taken the lease since.
            DependencyError: Redis does not answer.
        """
        await self.take()
        async with self.turn:
            yield Fence(TOKEN, self.token)

    async def release(self) -> None:
        """Let another trainer take over at once; it would otherwise wait until the lease ends."""
        if self.token:
            with contextlib.suppress(DependencyError, FencedError):
                await self._run(0, ttl_ms=0)

    async def wait(self, is_over: Callable[[], bool]) -> bool:
        """Return when the lease is ours, or the waiting is over; says whether it is ours."""
        told = False
        while not await self._try():
            if is_over():
                return False
            if not told:
                _LOG.info("another trainer holds the lease: waiting for it to end")
                told = True
            await asyncio.sleep(_POLL_S)
        return True

    async def keep(self) -> None:
        """Renew the lease for as long as this runs.

        Raises:
            FencedError: another trainer has taken it.
        """
        while True:
            await asyncio.sleep(self._ttl_s / 4)
            await self._try()

    @redis_errors()
    async def _run(self, newest: int, ttl_ms: int) -> tuple[str, str]:
        args = [str(self.token), str(newest), str(ttl_ms)]
        outcome, value = await self._take(keys=[LEASE, TOKEN], args=args)
        return outcome, value

    async def _try(self) -> bool:
        try:
            return await self.take()
        except DependencyError as error:
            _LOG.warning("the lease cannot be renewed", extra={"reason": error.detail})
            return False
