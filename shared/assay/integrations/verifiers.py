"""A reward for verifiers' tasks: `assay = make_reward()` in the body of a `Task`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from assay.errors import InvalidInputError
from assay.integrations.groups import Asked, Chat
from assay.integrations.rewarding import AsyncRewarder
from assay.integrations.settings import reward_settings


class Message(Protocol):
    """A message of a trace; verifiers' are pydantic models."""

    role: str

    def model_dump(self, *, exclude_none: bool) -> dict[str, Any]:
        """As plain data."""
        ...


class Node(Protocol):
    """A message, and whether the policy wrote it."""

    message: Message
    sampled: bool


class Branch(Protocol):
    """One conversation of a trace, from its first message to its last."""

    nodes: Sequence[Node]


class TraceTask(Protocol):
    """The task of a trace."""

    key: str | None


class Trace(Protocol):
    """What is read of a trace, and written to it."""

    task: TraceTask

    @property
    def branches(self) -> Sequence[Branch]:
        """Its conversations; the last one is scored."""
        ...

    @property
    def is_truncated(self) -> bool:
        """Whether a limit cut it."""
        ...

    def record_metric(self, name: str, value: float) -> None:
        """Log a number."""
        ...


def make_reward(
    *, weight: float = 1.0, **settings: Any
) -> Callable[[object, Trace], Awaitable[float]]:
    """A method for a `Task`, marked as verifiers' `@reward` marks one.

    Args:
        weight: of this reward among those of the task.
        settings: fields of `RewardSettings`; None = from the environment.
    """
    from verifiers.v1 import reward

    rewarder = AsyncRewarder(reward_settings(**settings))

    async def assay(self: object, trace: Trace) -> float:
        (result,) = await rewarder.reward([_asked(trace)])
        for name, value in result.figures.items():
            trace.record_metric(name, value)
        return result.only

    marked: Callable[[object, Trace], Awaitable[float]] = reward(assay, weight=weight)
    return marked


def _asked(trace: Trace) -> Asked:
    prompt, completion = _split(trace.branches[-1].nodes if trace.branches else ())
    return Asked(prompt, [completion], finished=[not trace.is_truncated], group=trace.task.key)


def _split(nodes: Sequence[Node]) -> tuple[Chat, Chat]:
    """The policy's last turn, tool messages included, and what came before it."""
    start = len(nodes)
    while start and nodes[start - 1].message.role in ("assistant", "tool"):
        start -= 1
    while start < len(nodes) and not nodes[start].sampled:
        start += 1
    messages = [node.message.model_dump(exclude_none=True) for node in nodes]
    if not 0 < start < len(nodes):
        raise InvalidInputError("the trace holds no prompt with a reply of the policy after it")
    return messages[:start], messages[start:]
