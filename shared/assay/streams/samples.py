"""The stream of policy samples, `assay:samples`, that the online trainer consumes.

An entry has two fields: `schema` (`1`) and `data`, a `Sample` as JSON. `append_samples.lua` does
the bound, the idempotency and the append in one step.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from importlib.resources import files

from redis.asyncio import Redis

from assay.errors import InvalidInputError, OverloadedError, PayloadTooLargeError
from assay.schemas.storage import Sample
from assay.streams.connection import redis_errors

STREAM = "assay:samples"
_RECORD_PREFIX = "assay:idempotency:"
_FULL_RETRY_AFTER_S = 5.0
_RESEND_TTL_S = 60  # redis-py may send a command again if the connection breaks under it
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
            PayloadTooLargeError: more samples than the stream ever holds.
            OverloadedError: the stream is full.
            InvalidInputError: the idempotency key was used before with other items.
            DependencyError: Redis does not answer.
        """
        if len(items) > self._max_entries:
            raise PayloadTooLargeError(
                f"{len(items)} samples in one request, and the stream holds {self._max_entries}"
            )
        texts = [item.model_dump_json(exclude_unset=True) for item in items]
        ttl_s = _RESEND_TTL_S if idempotency_key is None else self._idempotency_ttl_s
        keys = [STREAM, _record(idempotency_key or uuid.uuid4().hex)]
        args = [str(self._max_entries), _digest(texts), str(ttl_s), *texts]
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
