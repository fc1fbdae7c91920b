"""A preference model for the Tinker cookbook: `preference_model=AssayPreferenceModel()`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from assay.integrations.groups import Chat
from assay.integrations.rewarding import AsyncRewarder
from assay.integrations.settings import reward_settings


class Comparison(Protocol):
    """Two completions of one conversation; the cookbook's class of that name."""

    @property
    def prompt_conversation(self) -> Sequence[Mapping[str, Any]]:
        """The conversation before both."""
        ...

    @property
    def completion_A(self) -> Sequence[Mapping[str, Any]]:  # noqa: N802 - the cookbook's name
        """One."""
        ...

    @property
    def completion_B(self) -> Sequence[Mapping[str, Any]]:  # noqa: N802
        """The other."""
        ...


class AssayPreferenceModel:
    """How much better B is than A, from the preference strength of the server's ensemble.

    Args:
        settings: fields of `RewardSettings`; None = from the environment. The reward mode plays
            no part.
    """

    def __init__(self, **settings: Any) -> None:
        self._rewarder = AsyncRewarder(reward_settings(**settings))

    async def __call__(self, comparison: Comparison) -> float:
        """`2 P(B > A) - 1`, in [-1, 1], where P is the mean over members of sigmoid(d_m / T).

        Raises:
            AssayError: no preference, why, and what to do about it.
        """
        strength = await self._rewarder.strength(
            _chat(comparison.prompt_conversation),
            chosen=_chat(comparison.completion_B),
            rejected=_chat(comparison.completion_A),
        )
        return 2.0 * strength.probability - 1.0

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._rewarder.aclose()


def _chat(messages: Sequence[Mapping[str, Any]]) -> Chat:
    return [dict(message) for message in messages]
