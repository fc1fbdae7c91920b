"""The baseline completions of each prompt, by policy.

One hash per prompt, `assay:baselines:PROMPT_DIGEST`, with one field per policy that holds the
completions as a JSON list. Texts, not scores: a new version of the reward model scores them anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError
from redis.asyncio import Redis

from assay.errors import DependencyError
from assay.schemas.storage import BaselineSet, StoredBaselines
from assay.schemas.text import Completion, Prompt, prompt_digest
from assay.streams.connection import redis_errors

_PREFIX = "assay:baselines:"
_DAMAGED_S = 30.0  # somebody has to put them again first
_COMPLETIONS: TypeAdapter[list[Completion]] = TypeAdapter(list[Completion])


class BaselineStore:
    """Reads and writes baselines; every method raises DependencyError while Redis is down."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @redis_errors()
    async def put(self, items: Sequence[BaselineSet]) -> int:
        """Replace the set of each item's prompt and policy, all items or none.

        Returns:
            Items stored.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            for item in items:
                pipe.hset(_key(item.prompt), item.policy, _dump(item.completions))
            await pipe.execute()
        return len(items)

    @redis_errors()
    async def lookup(self, prompt: Prompt, policy: str | None) -> list[StoredBaselines]:
        """The sets of a prompt, of one policy or of all, by policy name."""
        sets = (await self._fetch([prompt], policy))[0]
        return [StoredBaselines(policy=name, completions=sets[name]) for name in sorted(sets)]

    @redis_errors()
    async def delete(self, prompt: Prompt, policy: str | None) -> int:
        """Delete the sets of a prompt, of one policy or of all.

        Returns:
            Sets deleted.
        """
        if policy is not None:
            return int(await self._redis.hdel(_key(prompt), policy))
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hlen(_key(prompt))
            pipe.delete(_key(prompt))
            count, _ = await pipe.execute()
        return int(count)

    @redis_errors()
    async def is_empty(self) -> bool:
        """Whether no prompt has any; only then it looks through all keys of the Redis."""
        async for _ in self._redis.scan_iter(match=f"{_PREFIX}*", count=1000):
            return False
        return True

    @redis_errors()
    async def fetch_many(
        self, prompts: Sequence[Prompt], policy: str | None
    ) -> list[dict[str, list[Completion]]]:
        """The sets of many prompts in one round trip: per prompt, policy to completions."""
        return await self._fetch(prompts, policy)

    async def _fetch(
        self, prompts: Sequence[Prompt], policy: str | None
    ) -> list[dict[str, list[Completion]]]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for prompt in prompts:
                pipe.hgetall(_key(prompt))
            found: list[dict[str, str]] = await pipe.execute()
        return [
            {name: _load(text) for name, text in sets.items() if policy in (None, name)}
            for sets in found
        ]


def _key(prompt: Prompt) -> str:
    return _PREFIX + prompt_digest(prompt)


def _dump(completions: Sequence[Completion]) -> str:
    return _COMPLETIONS.dump_json(list(completions), exclude_unset=True).decode()


def _load(text: str) -> list[Completion]:
    try:
        return _COMPLETIONS.validate_json(text)
    except ValidationError:  # names the text, so it is not passed on
        raise DependencyError(
            "stored baselines in Redis are damaged: put them again", retry_after_s=_DAMAGED_S
        ) from None
