"""What a trainer asks and what it gets, whatever the trainer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from assay.errors import ScoringError
from assay.schemas.refs import parse_pin
from assay.schemas.text import Message

Chat: TypeAlias = list[dict[str, Any]]
Text: TypeAlias = str | Chat


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
            "completions": [sendable(text) for text in self.completions],
            "labels": None if self.labels is None else list(self.labels),
            "finished": None if self.finished is None else list(self.finished),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def sample(self, policy: str) -> dict[str, Any]:
        """As a sample for the online trainer."""
        texts = {name: self.body[name] for name in ("prompt", "completions")}
        return {**texts, "policy": policy, "step": self.step, "group": self.group}


def sendable(completion: Text) -> Text:
    """An empty completion is a turn without content; as a string the API refuses it."""
    return [{"role": "assistant", "content": ""}] if completion == "" else completion


def plain(text: str | Sequence[Message]) -> Text:
    """A text as it is, messages as plain data."""
    if isinstance(text, str):
        return text
    return [message.model_dump(exclude_unset=True) for message in text]


@dataclass(frozen=True)
class Rewarded:
    """What one group came to; one entry per completion in each list.

    Attributes:
        rewards: by the mode; None = a rule gave no score.
        scores: mean over members, whatever the mode; None likewise.
        std: over members; None with one member or without calibration, or without a score.
        model: the version that scored, `name@7`.
    """

    rewards: list[float | None]
    scores: list[float | None]
    std: list[float | None] | None
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
        """Score, std and version of a single completion, under the names that logs show."""
        (score,) = self.scores
        known = {
            "assay_score": score,
            "assay_std": None if self.std is None else self.std[0],
            "assay_version": float(self.version),
        }
        return {name: value for name, value in known.items() if value is not None}

    def probability(self, temperature: float) -> float | None:
        """`sigmoid(score / T)` of a single completion: how likely a judge prefers it to an average
        one (Bradley-Terry); None = no score.

        Args:
            temperature: T of the version's calibration, above 0.
        """
        (score,) = self.scores
        return None if score is None else 0.5 * (1.0 + math.tanh(score / (2.0 * temperature)))
