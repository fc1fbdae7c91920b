"""Groups in, rewards out: what every integration does between its trainer and the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from assay.client import AsyncClient, Client
from assay.errors import (
    AssayError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    ServerUnreachableError,
    UnauthorizedError,
)
from assay.integrations.groups import Asked, Rewarded, Text, sendable
from assay.integrations.settings import RewardSettings
from assay.schemas.scoring import ContrastiveResponse, GroupScores, PairStrength, ScoreResponse

logger = logging.getLogger(__name__)

_SAMPLES_TIMEOUT_S = 10.0
_REMEDIES: dict[type[AssayError], str] = {
    ServerUnreachableError: "start the server (`assay up`), or set ASSAY_URL to where it is",
    UnauthorizedError: "set ASSAY_KEY to a key of the server",
    ForbiddenError: "use a key with the scope `score`",
}
_NO_BASELINE = "store some with Client.put_baselines, or set ASSAY_REWARD=score"


class Rewarder:
    """Asks for rewards and waits; for threads. Can be pickled: the copy opens connections anew."""

    def __init__(self, settings: RewardSettings) -> None:
        self.settings = settings
        self._temperatures: dict[str, float] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.settings,)

    def reward(self, asked: Sequence[Asked], *, raw: bool = False) -> list[Rewarded]:
        """Rewards of any number of groups, by one version.

        Args:
            asked: the groups.
            raw: True = no chat template, and prompts are not parsed.

        Raises:
            AssayError: what went wrong, and what to do about it.
        """
        settings, groups = self.settings, [group.body for group in asked]
        options = _options(settings, raw)
        with _remedies(settings):
            if settings.reward == "contrastive":
                results = _contrasted(self._client.contrastive_groups(groups, **options))
            else:
                results = _scored(self._client.score_groups(groups, **options), settings)
        if settings.samples_policy is not None:
            with _samples_are_extra():
                self._samples.post_samples([a.sample(settings.samples_policy) for a in asked])
        return results

    def temperature(self, model: str) -> float:
        """T of a version's calibration; 1 without one, or if it has left memory since it answered.

        Asked for once per version.
        """
        if model not in self._temperatures:
            try:
                with _remedies(self.settings):
                    calibration = self._client.model(model).assay.calibration
            except (ConflictError, NotFoundError):
                return 1.0
            self._temperatures[model] = calibration.temperature if calibration else 1.0
        return self._temperatures[model]

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        for name in ("_client", "_samples"):
            client = self.__dict__.pop(name, None)
            if client is not None:
                client.close()

    @cached_property
    def _client(self) -> Client:
        return Client(**_connection(self.settings))

    @cached_property
    def _samples(self) -> Client:
        return Client(**_samples_connection(self.settings))


class AsyncRewarder:
    """The same for asyncio; each event loop gets connections of its own."""

    def __init__(self, settings: RewardSettings) -> None:
        self.settings = settings
        self._clients: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[AsyncClient, AsyncClient]
        ] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.settings,)

    async def reward(self, asked: Sequence[Asked], *, raw: bool = False) -> list[Rewarded]:
        """See `Rewarder.reward`."""
        settings, groups = self.settings, [group.body for group in asked]
        options = _options(settings, raw)
        client, samples = self._connected()
        with _remedies(settings):
            if settings.reward == "contrastive":
                results = _contrasted(await client.contrastive_groups(groups, **options))
            else:
                results = _scored(await client.score_groups(groups, **options), settings)
        if settings.samples_policy is not None:
            with _samples_are_extra():
                await samples.post_samples([a.sample(settings.samples_policy) for a in asked])
        return results

    async def strength(self, prompt: Text, chosen: Text, rejected: Text) -> PairStrength:
        """How strongly and how surely one completion is preferred to another."""
        client, _ = self._connected()
        with _remedies(self.settings):
            pair = {"prompt": prompt, "chosen": sendable(chosen), "rejected": sendable(rejected)}
            return (await client.strength_pairs([pair])).results[0]

    async def aclose(self) -> None:
        """Close the connections of this event loop; a later call opens new ones."""
        for client in self._clients.pop(asyncio.get_running_loop(), ()):
            await client.aclose()

    def _connected(self) -> tuple[AsyncClient, AsyncClient]:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = (
                AsyncClient(**_connection(self.settings)),
                AsyncClient(**_samples_connection(self.settings)),
            )
        return self._clients[loop]


def _connection(settings: RewardSettings) -> dict[str, Any]:
    return {
        "url": str(settings.url),
        "key": settings.key.get_secret_value() if settings.key else None,
        "timeout_s": settings.timeout_s,
        "retries": settings.retries,
        "connections": settings.connections,
    }


def _samples_connection(settings: RewardSettings) -> dict[str, Any]:
    return {**_connection(settings), "timeout_s": _SAMPLES_TIMEOUT_S, "retries": 1}


def _options(settings: RewardSettings, raw: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"raw": True} if raw else {}
    if settings.reward == "contrastive":
        options |= {"policy": settings.baseline_policy, "statistic": settings.statistic}
    if settings.reward == "lcb" or (
        settings.reward == "contrastive" and settings.lcb_k is not None
    ):
        options |= {"aggregate": "lcb", "lcb_k": settings.lcb_k_or_one}
    return options


def _scored(reply: ScoreResponse, settings: RewardSettings) -> list[Rewarded]:
    return [
        Rewarded(list(group.scores), _means(group, settings), group.std, reply.model)
        for group in reply.results
    ]


def _means(group: GroupScores, settings: RewardSettings) -> list[float | None]:
    """The means over members, which a lower bound stands below."""
    if settings.reward != "lcb" or group.std is None:
        return list(group.scores)
    return [
        None if score is None or std is None else score + settings.lcb_k_or_one * std
        for score, std in zip(group.scores, group.std, strict=True)
    ]


def _contrasted(reply: ContrastiveResponse) -> list[Rewarded]:
    return [
        Rewarded(list(group.rewards), list(group.scores), group.std, reply.model)
        for group in reply.results
    ]


@contextmanager
def _remedies(settings: RewardSettings) -> Iterator[None]:
    """Add to an error what to do about it, where it does not say so itself."""
    try:
        yield
    except AssayError as error:
        remedy = _remedy(error, settings)
        if remedy is None:
            raise
        raise type(error)(
            f"{error.detail}: {remedy}", fields=error.fields, retry_after_s=error.retry_after_s
        ) from error


def _remedy(error: AssayError, settings: RewardSettings) -> str | None:
    if settings.reward == "contrastive" and isinstance(error, InvalidInputError):
        return _NO_BASELINE if "baseline" in error.detail else None
    return next((text for kind, text in _REMEDIES.items() if isinstance(error, kind)), None)


@contextmanager
def _samples_are_extra() -> Iterator[None]:
    """The rewards are there: a sample that cannot be stored must not cost the training step."""
    try:
        yield
    except AssayError as error:
        logger.warning("samples not posted", extra={"reason": error.detail})
