"""Reward functions for TRL's trainers (`GRPOTrainer`, `RLOOTrainer` and what is built on them).

`reward_funcs=AssayReward()`, or `AsyncAssayReward()`, which TRL runs side by side with other
reward functions. A completion without a score is None, which `GRPOTrainer` and `RLOOTrainer` leave
out since TRL 1.6. Before, and in TRL's experimental trainers, None would be trained on as 0: there
it is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import groupby
from statistics import fmean
from typing import Any, Protocol

from assay.errors import ScoringError
from assay.integrations.groups import Asked, Rewarded, Text
from assay.integrations.rewarding import AsyncRewarder, Rewarder
from assay.integrations.settings import reward_settings


class TrainerState(Protocol):
    """What is read of the trainer's state."""

    global_step: int


LogMetric = Callable[[str, float], None]
LogExtra = Callable[[str, list[float | None]], None]


class AssayReward:
    """A reward function that waits for the server.

    Args:
        label_column: column of the data set that holds labels for rules, if it is there.
        eos_token_id: of the policy; with it, a completion that ends otherwise counts as cut by
            the token limit, and is scored without an end token.
        settings: fields of `RewardSettings`; None = from the environment.
    """

    def __init__(
        self, *, label_column: str = "label", eos_token_id: int | None = None, **settings: Any
    ) -> None:
        self._rewarder = Rewarder(reward_settings(**settings))
        self._rows = _Rows(label_column, eos_token_id)

    def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        trainer_state: TrainerState | None = None,
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Rewards of completions, in order.

        Args:
            prompts: one per completion, texts or conversations; equal ones in a row are a group.
            completions: texts, or lists of assistant and tool messages.
            completion_ids: their token ids.
            trainer_state: gives the step of samples.
            log_metric: takes the mean of std, and the version.
            log_extra: takes the std of each completion.
            columns: the other columns of the data set.

        Raises:
            AssayError: no rewards, why, and what to do about it.
        """
        asked = self._rows.groups(prompts, completions, completion_ids, trainer_state, columns)
        results = self._rewarder.reward(asked) if asked else []
        return _rewards(results, trainer_state, log_metric, log_extra)

    def close(self) -> None:
        """Close the connections."""
        self._rewarder.close()


class AsyncAssayReward:
    """The same as a coroutine; see `AssayReward`."""

    def __init__(
        self, *, label_column: str = "label", eos_token_id: int | None = None, **settings: Any
    ) -> None:
        self._rewarder = AsyncRewarder(reward_settings(**settings))
        self._rows = _Rows(label_column, eos_token_id)

    async def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        trainer_state: TrainerState | None = None,
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """See `AssayReward.__call__`."""
        asked = self._rows.groups(prompts, completions, completion_ids, trainer_state, columns)
        results = await self._rewarder.reward(asked) if asked else []
        return _rewards(results, trainer_state, log_metric, log_extra)

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._rewarder.aclose()


@dataclass(frozen=True)
class _Rows:
    """How the rows of a batch become groups."""

    label_column: str
    eos_token_id: int | None

    def groups(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None,
        state: TrainerState | None,
        columns: Mapping[str, Any],
    ) -> list[Asked]:
        """The completions of equal prompts in a row, together."""
        labels, finished = columns.get(self.label_column), self._finished(completion_ids)
        asked = []
        for _, rows in groupby(range(len(completions)), key=lambda row: prompts[row]):
            first, *rest = rows
            own = slice(first, first + 1 + len(rest))
            group = Asked(
                prompts[first],
                completions[own],
                labels=None if labels is None else labels[own],
                finished=None if finished is None else finished[own],
                step=None if state is None else state.global_step,
            )
            asked.append(group)
        return asked

    def _finished(self, completion_ids: Sequence[Sequence[int]] | None) -> list[bool] | None:
        if completion_ids is None or self.eos_token_id is None:
            return None
        return [len(ids) > 0 and ids[-1] == self.eos_token_id for ids in completion_ids]


def _rewards(
    results: Sequence[Rewarded],
    state: TrainerState | None,
    log_metric: LogMetric | None,
    log_extra: LogExtra | None,
) -> list[float | None]:
    """One for each completion; what is known beside them goes into the log."""
    rewards = [reward for result in results for reward in result.rewards]
    if None in rewards and state is not None and not _leaves_out(log_metric):
        raise ScoringError(
            "no score for a completion, and this trainer would train on 0 in its place: use "
            "GRPOTrainer or RLOOTrainer of TRL 1.6 or later, or let the server's components hold "
            "one that always gives a score"
        )
    std = [value for result in results for value in result.std or ()]
    known = [value for value in std if value is not None]
    if log_metric is not None and results:
        log_metric("assay/version", float(results[0].version))
    if log_metric is not None and known:
        log_metric("assay/std", fmean(known))
    if log_extra is not None and std:
        log_extra("assay_std", std)
    return rewards


def _leaves_out(log_metric: LogMetric | None) -> bool:
    """Whether a trainer knows None; those that do not take no metrics either."""
    return log_metric is not None and _trl_version() >= (1, 6)


def _trl_version() -> tuple[int, int]:
    major, minor = metadata.version("trl").split(".")[:2]
    return int(major), int(minor)
