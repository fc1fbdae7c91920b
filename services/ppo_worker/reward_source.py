"""Everything the worker asks of the reward server, over HTTP, whatever becomes of the server."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from assay.client import Client
from assay.errors import (
    AssayError,
    ConflictError,
    DeadlineExceededError,
    DependencyError,
    NotFoundError,
    RateLimitedError,
    ScoringError,
    ServerUnreachableError,
    StartupError,
    UnavailableError,
)
from assay.schemas.scoring import ContrastiveResponse, ScoreResponse
from assay.schemas.text import Prompt
from ppo_worker.rollout import Rollout
from ppo_worker.settings import PPOSettings

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
_LARGEST = 1e30  # beyond it sums of squares leave the range of floats
_TOLD = 2  # tries that fail before the wait is told of
# A version that leaves between two parts of a call is a conflict; the next call gets another one.
# What stands in front of a server answers 404 while there is none.
_PASSING = (
    UnavailableError,
    ServerUnreachableError,
    DeadlineExceededError,
    RateLimitedError,
    ConflictError,
    NotFoundError,
)
T = TypeVar("T")
Tell = Callable[..., None]


@dataclass(frozen=True)
class Rewarded:
    """What one version of the reward model says of a rollout, a list entry per completion.

    Attributes:
        model_version: `name@7`.
        rewards: what is optimised; None = the server gives none, or the text is empty.
        scores: of the reward model, before any baseline.
        std: how far the members of the ensemble differ; None for a model that cannot say.
    """

    model_version: str
    rewards: list[float | None]
    scores: list[float | None]
    std: list[float | None]

    @property
    def rows(self) -> list[int]:
        """Completions that have a reward."""
        return [row for row, reward in enumerate(self.rewards) if reward is not None]


class _Sent(NamedTuple):
    """A group's request, and the rows of the completions in it."""

    group: dict[str, Any]
    rows: list[int]


class RewardSource:
    """Rewards, baselines and samples; waits for a server that is gone.

    Args:
        settings: mode, names and patience.
        baseline_policy: the name under which baselines are stored.
        tell: takes an event's kind and fields.
    """

    def __init__(self, settings: PPOSettings, baseline_policy: str, tell: Tell) -> None:
        self._settings, self._policy, self._tell = settings, baseline_policy, tell
        self._client = Client(settings.url, retries=0)  # `_insist` does that

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def check(self, prompt: Prompt) -> None:
        """Ask once for what the run will need.

        Raises:
            StartupError: the server is not there, or has no Redis and needs it.
            AssayError: it refuses, for `lcb` a model with one member, say.
        """
        try:
            self._client.score(prompt, ["."])
            if self._settings.reward != "score":
                self._client.contrastive(prompt, ["."], ["."], **self._contrastive_options)
            if self._settings.post_samples or self._settings.reward != "score":
                self._client.lookup_baselines(prompt, self._policy)
        except ServerUnreachableError as error:
            raise StartupError(f"{error.detail}: start one with `assay up`, or set --url") from None
        except DependencyError as error:
            raise StartupError(
                f"{error.detail}: samples and baselines need it; `assay up` brings one, and "
                "`--no-post-samples` with `--reward score` does without"
            ) from None

    def rewards(self, rollout: Rollout) -> Rewarded:
        """The rewards of a rollout in one call, all by one version.

        Raises:
            AssayError: the server refuses, or was gone for too long.
        """
        if self._settings.reward == "score":
            return self.scores(rollout)
        sent = _requests(rollout, with_finished=True)
        reply = self._insist(
            lambda: self._client.contrastive_groups(
                [one.group for one in sent], policy=self._policy, **self._contrastive_options
            )
        )
        return _contrasted(reply, sent, len(rollout.texts))

    def scores(self, rollout: Rollout) -> Rewarded:
        """Plain scores in one call, which are the rewards too."""
        sent = _requests(rollout, with_finished=True)
        reply = self._insist(lambda: self._client.score_groups([one.group for one in sent]))
        return _scored(reply, sent, len(rollout.texts))

    def post(self, rollout: Rollout, step: int, run_id: str) -> None:
        """Hand the completions of a step to the online trainer, once however often it is called."""
        digest = hashlib.sha256("\0".join(rollout.texts).encode()).hexdigest()[:16]
        key = f"{run_id}-{step}-{digest}"
        items = [
            {**one.group, "policy": self._settings.policy_name, "step": step}
            for one in _requests(rollout, with_finished=False)
        ]
        if items:
            self._insist(lambda: self._client.post_samples(items, key))

    def lacks_baselines(self, prompt: Prompt) -> bool:
        """Whether no baseline of the base policy is stored for a prompt."""
        return not self._insist(lambda: self._client.lookup_baselines(prompt, self._policy)).items

    def put_baselines(self, baselines: Sequence[tuple[Prompt, list[str]]]) -> None:
        """Store completions of the base policy."""
        items = [
            {"prompt": prompt, "completions": texts, "policy": self._policy}
            for prompt, texts in baselines
        ]
        self._insist(lambda: self._client.put_baselines(items))

    @property
    def _contrastive_options(self) -> dict[str, Any]:
        lcb = {"aggregate": "lcb", "lcb_k": self._settings.lcb_k}
        return lcb if self._settings.reward == "lcb" else {"aggregate": "mean"}

    def _insist(self, call: Callable[[], T]) -> T:
        """Do it, if need be when the server is back."""
        ends_s = time.monotonic() + self._settings.wait_s
        pause_s, tries = _FIRST_PAUSE_S, 0
        while True:
            try:
                result = call()
            except AssayError as error:
                # A plain one is a 500 or 502 of a server, or of a proxy, that was just breaking up.
                passing = isinstance(error, _PASSING) or type(error) is AssayError
                if not passing or time.monotonic() + pause_s > ends_s:
                    raise
                tries += 1
                if tries == _TOLD:
                    self._tell("waiting", reason=error.detail)
                time.sleep(max(pause_s, min(error.retry_after_s or 0.0, _LONGEST_PAUSE_S)))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                if tries >= _TOLD:
                    self._tell("back")
                return result


def _requests(rollout: Rollout, with_finished: bool) -> list[_Sent]:
    """The groups with their completions that are not empty: an empty one has no score."""
    sent = []
    for index, prompt in enumerate(rollout.prompts):
        rows = [row for row in rollout.group(index) if rollout.texts[row]]
        group: dict[str, Any] = {
            "prompt": prompt,
            "completions": [rollout.texts[row] for row in rows],
        }
        if with_finished:
            group["finished"] = [rollout.finished[row] for row in rows]
        if rows:
            sent.append(_Sent(group, rows))
    if not sent:
        raise AssayError("all completions of a step are empty: the policy ends at once")
    return sent


def _scored(reply: ScoreResponse, sent: Sequence[_Sent], size: int) -> Rewarded:
    scores, std = _by_row(
        size, [(one.rows, r.scores, r.std) for one, r in zip(sent, reply.results, strict=True)]
    )
    return Rewarded(reply.model, scores, list(scores), std)


def _contrasted(reply: ContrastiveResponse, sent: Sequence[_Sent], size: int) -> Rewarded:
    pairs = list(zip(sent, reply.results, strict=True))
    rewards, std = _by_row(size, [(one.rows, r.rewards, r.std) for one, r in pairs])
    scores, _ = _by_row(size, [(one.rows, r.scores, None) for one, r in pairs])
    return Rewarded(reply.model, rewards, scores, std)


def _by_row(
    size: int,
    parts: Sequence[tuple[Sequence[int], Sequence[float | None], Sequence[float | None] | None]],
) -> tuple[list[float | None], list[float | None]]:
    """Values and spreads of groups in the order of the rollout's rows.

    Raises:
        ScoringError: a value is too large to reckon with.
    """
    values: list[float | None] = [None] * size
    spreads: list[float | None] = [None] * size
    for rows, own, spread in parts:
        for place, row in enumerate(rows):
            values[row] = own[place]
            spreads[row] = None if spread is None else spread[place]
    highest = max((abs(value) for value in values if value is not None), default=0.0)
    if highest > _LARGEST:
        raise ScoringError(f"the server gave {highest:g}, which is no score to learn from")
    return values, spreads
