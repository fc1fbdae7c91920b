"""The trainer's side of the stream: reading on from a checkpoint, acknowledging, dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from redis import exceptions
from redis.asyncio import Redis
from redis.client import NEVER_DECODE
from redis.commands.core import AsyncScript

from assay.registry.fence import fenced
from assay.streams.connection import redis_errors
from assay.streams.samples import STREAM
from reward_trainer.online.lease import TOKEN, Lease

DEAD = "assay:samples:dead"
GROUP = "trainer"
START = "0-0"
_CONSUMER = "trainer"
_BLOCK_MS = 500
_CHUNK = 200
_MOST_LETTERS = 10_000
_MOST_CHARACTERS = 8_000  # of the data of one
_READ = (
    *("XREADGROUP", "GROUP", GROUP, _CONSUMER, "COUNT", _CHUNK, "BLOCK", _BLOCK_MS),
    *("STREAMS", STREAM, ">"),
)
_FOLDER = files("reward_trainer.online")


class Entry(NamedTuple):
    """A stream entry as it was found."""

    id: str
    fields: dict[str, str]


class Letter(NamedTuple):
    """An entry that cannot be used.

    Attributes:
        id: its stream id.
        reason: one line.
        data: what it held.
    """

    id: str
    reason: str
    data: str


class SampleReader:
    """Reads and clears the stream for the trainer that holds a lease.

    Every method raises DependencyError while Redis is down; the writing ones raise FencedError,
    with nothing written, once another trainer has taken over.

    Args:
        redis: the connection.
        lease: whose token goes with every write.
    """

    def __init__(self, redis: Redis, lease: Lease) -> None:
        self._redis, self._lease = redis, lease
        self._start, self._ack, self._bury = (
            redis.register_script(_FOLDER.joinpath(f"fenced_{name}.lua").read_text("utf-8"))
            for name in ("start", "ack", "bury")
        )

    async def start(self, last_id: str) -> None:
        """Go on behind the last entry that a checkpoint covers, whatever was delivered before."""
        await self._fenced(self._start, STREAM, GROUP, last_id)

    async def read(self, last_id: str) -> list[Entry]:
        """The next entries in stream order; none if none come for a moment.

        Args:
            last_id: where to go on if Redis has lost the consumer group.
        """
        try:
            return await self._read()
        except _GroupLostError:
            await self.start(last_id)
            return []

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Acknowledge entries in stream order, and take them and all before them out of it."""
        for start in range(0, len(ids), _CHUNK):
            part = ids[start : start + _CHUNK]
            await self._fenced(self._ack, STREAM, GROUP, after(part[-1]), *part)

    async def bury(self, letters: Sequence[Letter]) -> None:
        """Keep what cannot be used, under its id; those that are there stay as they are.

        Long data is cut. Beyond some thousand letters the oldest are deleted and counted.
        """
        parts = [part for one in letters for part in (one.id, one.reason, _cut(one.data))]
        await self._fenced(self._bury, DEAD, str(_MOST_LETTERS), *parts)

    @redis_errors()
    async def _read(self) -> list[Entry]:
        try:
            reply = await self._redis.execute_command(  # type: ignore[no-untyped-call]
                *_READ, **{NEVER_DECODE: True}
            )
        except exceptions.ResponseError as error:
            if str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise _GroupLostError from None
            raise
        return [_entry(*found) for _, entries in reply or [] for found in entries]

    @redis_errors()
    async def _fenced(self, script: AsyncScript, key: str, *args: str) -> None:
        """Run a script under the lease; once more with a new token if Redis has lost the old."""
        reply = await self._with_token(script, key, *args)
        if reply == "lost" and await self._lease.take():
            reply = await self._with_token(script, key, *args)
        if reply != "done":
            raise fenced()

    async def _with_token(self, script: AsyncScript, key: str, *args: str) -> str:
        async with self._lease.turn:
            reply: str = await script(keys=[key, TOKEN], args=[str(self._lease.token), *args])
        return reply


def _cut(data: str) -> str:
    if len(data) <= _MOST_CHARACTERS:
        return data
    return f"{data[:_MOST_CHARACTERS]}... ({len(data)} characters)"


class _GroupLostError(Exception):
    """Redis has no such consumer group: its data was wiped."""


def _entry(id: bytes, fields: dict[bytes, bytes] | None) -> Entry:
    """Strangers may write what is no UTF-8."""
    pairs = {name: value.decode(errors="replace") for name, value in (fields or {}).items()}
    return Entry(id.decode(), {name.decode(errors="replace"): v for name, v in pairs.items()})


def after(entry: str) -> str:
    """The lowest stream id behind one."""
    milliseconds, _, sequence = entry.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"
