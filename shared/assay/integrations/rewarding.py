"""Groups in, rewards out: what every integration does between its trainer and the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from assay.client import AsyncClient, Client
from assay.errors import (
    AssayError,
    ForbiddenError,
    InvalidInputError,
    ScoringError,
    ServerUnreachableError,
    UnauthorizedError,
)
from assay.integrations.settings import RewardSettings
from assay.schemas.refs import parse_pin
from assay.schemas.scoring import ContrastiveResponse, PairStrength, ScoreResponse

logger = logging.getLogger(__name__)

Chat: TypeAlias = list[dict[str, Any]]
Text: TypeAlias = str | Chat

_SAMPLES_TIMEOUT_S = 10.0
_REMEDIES: dict[type[AssayError], str] = {
    ServerUnreachableError: "start the server (`assay up`), or set ASSAY_URL to where it is",
    UnauthorizedError: "set ASSAY_KEY to a key of the server",
    ForbiddenError: "use a key with the scope `score`",
}
_NO_BASELINE = "store some with Client.put_baselines, or set ASSAY_REWARD=score"


@dataclass(frozen=True)
class Asked:
    """One prompt with its completions, as a trainer has them.

    Attributes:
        labels: one per completion, for rules; None = no labels.
        finished: one per completion, False = cut by the token limit; None = not known.
        step: the policy's step, if known.
        group: joins completions that arrive apart, if the trainer has such an id.
    """

    prompt: Text
    completions: Sequence[Text]
    labels: Sequence[Any] | None = None
    finished: Sequence[bool] | None = None
    step: int | None = None
    group: str | None = None

    @property
    def body(self) -> dict[str, Any]:
        """As a group of a scoring request."""
        fields = {
            "prompt": self.prompt,
            "completions": [_sendable(text) for text in self.completions],
            "labels": None if self.labels is None else list(self.labels),
            "finished": None if self.finished is None else list(self.finished),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def sample(self, policy: str) -> dict[str, Any]:
        """As a sample for the online trainer."""
        texts = {name: self.body[name] for name in ("prompt", "completions")}
        return {**texts, "policy": policy, "step": self.step, "group": self.group}


def _sendable(completion: Text) -> Text:
    """An empty completion is a turn without content; as a string the API refuses it."""
    return [{"role": "assistant", "content": ""}] if completion == "" else completion


@dataclass(frozen=True)
class Rewarded:
    """What one group came to.

    Attributes:
        rewards: one per completion, by the mode; None = a rule gave no score.
        std: over members, one per completion; None with one member or without calibration.
        model: the version that scored, `name@7`.
    """

    rewards: list[float | None]
    std: list[float] | None
    model: str

    @property
    def version(self) -> int:
        """The number of that version, for logs that take numbers only."""
        return parse_pin(self.model).version or 0

    @property
    def only(self) -> float:
        """The reward of a single completion, for trainers that have no word for "no score".

        Raises:
            ScoringError: there is none.
        """
        (reward,) = self.rewards
        if reward is None:
            raise ScoringError(
                "no score for this completion, and this trainer cannot leave a sample out: "
                "let the server's components hold one that always gives a score"
            )
        return reward

    @property
    def figures(self) -> dict[str, float]:
        """Version and std of a single completion, under the names that logs show."""
        std = {} if self.std is None else {"assay_std": self.std[0]}
        return {"assay_version": float(self.version), **std}


class Rewarder:
    """Asks for rewards and waits; for threads. Can be pickled: the copy opens connections anew."""

    def __init__(self, settings: RewardSettings) -> None:
        self.settings = settings

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.settings,)

    def reward(self, asked: Sequence[Asked]) -> list[Rewarded]:
        """Rewards of any number of groups, by one version.

        Raises:
            AssayError: what went wrong, and what to do about it.
        """
        settings, groups = self.settings, [group.body for group in asked]
        with _remedies(settings):
            if settings.reward == "contrastive":
                results = _contrasted(
                    self._client.contrastive_groups(groups, **_contrastive_options(settings))
                )
            else:
                results = _scored(self._client.score_groups(groups, **_score_options(settings)))
        if settings.samples_policy is not None:
            with _samples_are_extra():
                self._samples.post_samples([a.sample(settings.samples_policy) for a in asked])
        return results

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

    async def reward(self, asked: Sequence[Asked]) -> list[Rewarded]:
        """See `Rewarder.reward`."""
        settings, groups = self.settings, [group.body for group in asked]
        client, samples = self._connected()
        with _remedies(settings):
            if settings.reward == "contrastive":
                results = _contrasted(
                    await client.contrastive_groups(groups, **_contrastive_options(settings))
                )
            else:
                results = _scored(await client.score_groups(groups, **_score_options(settings)))
        if settings.samples_policy is not None:
            with _samples_are_extra():
                await samples.post_samples([a.sample(settings.samples_policy) for a in asked])
        return results

    async def strength(self, prompt: Text, chosen: Text, rejected: Text) -> PairStrength:
        """How strongly and how surely one completion is preferred to another."""
        client, _ = self._connected()
        with _remedies(self.settings):
            pair = {"prompt": prompt, "chosen": _sendable(chosen), "rejected": _sendable(rejected)}
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
        "connections": settings.connections,
    }


def _samples_connection(settings: RewardSettings) -> dict[str, Any]:
    return {**_connection(settings), "timeout_s": _SAMPLES_TIMEOUT_S, "retries": 1}


def _score_options(settings: RewardSettings) -> dict[str, Any]:
    if settings.reward == "lcb":
        return {"aggregate": "lcb", "lcb_k": settings.lcb_k}
    return {}


def _contrastive_options(settings: RewardSettings) -> dict[str, Any]:
    return {"policy": settings.baseline_policy, "statistic": settings.statistic}


def _scored(reply: ScoreResponse) -> list[Rewarded]:
    return [Rewarded(list(group.scores), group.std, reply.model) for group in reply.results]


def _contrasted(reply: ContrastiveResponse) -> list[Rewarded]:
    return [Rewarded(list(group.rewards), group.std, reply.model) for group in reply.results]


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
