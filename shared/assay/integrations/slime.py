"""A custom reward for slime: `--custom-rm-path assay.integrations.slime.reward`.

Takes one sample, or a list of them with `--group-rm`. With `--reward-key score` the reward is an
object that also carries version and std. slime has no word for "no score": it is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, overload

from assay.integrations.groups import Asked, Rewarded, Text, plain
from assay.integrations.rewarding import AsyncRewarder
from assay.integrations.settings import reward_settings
from assay.schemas.boundary import Rules, read_apart


class Status(Protocol):
    """How a sample ended; slime's enumeration."""

    @property
    def name(self) -> str:
        """`COMPLETED`, `TRUNCATED` ..."""
        ...


class Sample(Protocol):
    """What is read of slime's samples."""

    prompt: Text
    response: str
    label: Any
    group_index: int | None

    @property
    def status(self) -> Status:
        """How it ended."""
        ...


class Arguments(Protocol):
    """What is read of slime's arguments."""

    reward_key: str | None


Value = float | dict[str, float]


@overload
async def reward(args: Arguments, samples: Sample, **kwargs: Any) -> Value: ...
@overload
async def reward(args: Arguments, samples: Sequence[Sample], **kwargs: Any) -> list[Value]: ...
async def reward(
    args: Arguments, samples: Sample | Sequence[Sample], **kwargs: Any
) -> Value | list[Value]:
    """The reward of a sample, or of each of several.

    Raises:
        AssayError: no rewards, why, and what to do about it.
    """
    several = list(samples) if isinstance(samples, Sequence) else [samples]
    if not several:
        return []
    rewarder = _rewarder()
    settings = rewarder.settings
    asked = [_asked(sample, settings.text_rules) for sample in several]
    results = await rewarder.reward(asked, raw=settings.template == "none")
    values = [_value(result, args.reward_key) for result in results]
    return values if isinstance(samples, Sequence) else values[0]


@cache
def _rewarder() -> AsyncRewarder:
    return AsyncRewarder(reward_settings())


def _asked(sample: Sample, rules: Rules) -> Asked:
    prompt, completion = _parts(sample, rules)
    group = sample.group_index
    return Asked(
        prompt,
        [completion],
        labels=None if sample.label is None else [sample.label],
        finished=[sample.status.name != "TRUNCATED"],
        group=None if group is None else str(group),
    )


def _parts(sample: Sample, rules: Rules) -> tuple[Text, Text]:
    """Prompt and completion; with `--apply-chat-template` the prompt is a text in a template."""
    if not isinstance(sample.prompt, str):
        return sample.prompt, sample.response
    reading = read_apart(sample.prompt, sample.response, rules)
    return plain(reading.prompt), plain(reading.completion)


def _value(result: Rewarded, key: str | None) -> Value:
    return {key: result.only, **result.figures} if key else result.only
