"""The stream of policy samples, `assay:samples`, that the online trainer consumes.

An entry has two fields: `schema` (`1`) and `data`, a `Sample` as JSON. `append_samples.lua` does
the bound, the idempotency and the append in one step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files

from redis.asyncio import Redis

from assay.errors import InvalidInputError, OverloadedError
from assay.schemas.storage import Sample
from assay.streams.connection import redis_errors

STREAM = "assay:samples"
_RECORD_PREFIX = "assay:idempotency:"
_FULL_RETRY_AFTER_S = 5.0
_LUA = files("assay.streams").joinpath("append_samples.lua")


class SampleStream:
    """Appends samples.

    Args:
        redis: the connection.
        max_entries: bound on the stream's length, acknowledged entries included.
        idempotency_ttl_s: how long a retried request is recognised.
    """

    def __init__(self, redis: Redis, *, max_entries: int, idempotency_ttl_s: int) -> None:
        self._max_entries = max_entries
        self._idempotency_ttl_s = idempotency_ttl_s
        self._append = redis.register_script(_LUA.read_text(encoding="utf-8"))

    @redis_errors()
    async def append(self, items: Sequence[Sample], idempotency_key: str | None) -> list[str]:
        """Append the samples of one request, all of them or none.

        Returns:
            Their stream ids; for a retried request those of the first time.

        Raises:
            OverloadedError: the stream is full.
            InvalidInputError: the idempotency key was used before with other items.
            DependencyError: Redis does not answer.
        """
        texts = [item.model_dump_json(exclude_unset=True) for item in items]
        keys = [STREAM] if idempotency_key is None else [STREAM, _record(idempotency_key)]
        args = [str(self._max_entries), _digest(texts), str(self._idempotency_ttl_s), *texts]
        outcome, *rest = await self._append(keys=keys, args=args)
        if outcome == "full":
            raise OverloadedError(
                f"the stream holds {rest[0]} of {self._max_entries} samples",
                retry_after_s=_FULL_RETRY_AFTER_S,
            )
        if outcome == "mismatch":
            raise InvalidInputError("this Idempotency-Key came before with other items")
        return list(rest)


def _record(idempotency_key: str) -> str:
    return _RECORD_PREFIX + hashlib.sha256(idempotency_key.encode()).hexdigest()


def _digest(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
