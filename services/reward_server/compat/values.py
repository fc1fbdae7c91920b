"""From scored texts to what a reply says of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from assay.rewards.aggregate import aggregate, or_none, spread
from assay.rewards.strength import sigmoid

if TYPE_CHECKING:
    from reward_server.compat.query import RewardOptions
    from reward_server.scoring import Scored
    from reward_server.versions import Resident


class Gain(NamedTuple):
    """The contrastive reward, and how many stored baselines it is over."""

    reward: float
    baselines: int


class Value(NamedTuple):
    """What one text is worth.

    Attributes:
        reward: the value that was asked for.
        score: mean over members, as `POST /v1/score` gives it.
        std: population std over members; None with one member or without calibration.
        probability: sigmoid(score / T) with T of the calibration, in (0, 1): how likely a judge
            prefers the completion to one of average score (Bradley-Terry).
        gain: over the stored baselines; None = there are none at hand.
        components: of a composite, by name; they sum to `score`.
    """

    reward: float
    score: float
    std: float | None
    probability: float
    gain: Gain | None
    components: Mapping[str, float] | None


class Output(NamedTuple):
    """What came of one input.

    Attributes:
        tokens: that were scored.
        truncated: True = some were dropped first.
        value: None = a rule gave no score.
    """

    tokens: int
    truncated: bool
    value: Value | None

    @property
    def reward(self) -> float | None:
        """The reward; None = a rule gave no score."""
        return self.value.reward if self.value else None


def make_outputs(
    resident: Resident,
    scored: Scored,
    texts: int,
    gains: Mapping[int, Gain],
    options: RewardOptions,
) -> list[Output]:
    """One output for each of the first `texts` texts; what follows them are baselines."""
    calibration = resident.card.assay.calibration
    temperature = calibration.temperature if calibration else 1.0
    members = scored.with_gaps[:texts]
    scores = members.mean(axis=1)
    rewards = or_none(aggregate(members, options.aggregate, options.lcb_k))
    stds = or_none(spread(members)) if calibration and members.shape[1] > 1 else [None] * texts
    probabilities = sigmoid(scores / temperature)
    outputs = []
    for index, encoded in enumerate(scored.encoded[:texts]):
        gain, value = gains.get(index), None
        reward = rewards[index] if options.reward != "contrastive" else gain and gain.reward
        if reward is not None:
            value = Value(
                reward=reward,
                score=float(scores[index]),
                std=stds[index],
                probability=float(probabilities[index]),
                gain=gain,
                components=_components(scored, index),
            )
        outputs.append(Output(len(encoded), encoded.truncated, value))
    return outputs


def _components(scored: Scored, index: int) -> dict[str, float] | None:
    if scored.components is None:
        return None
    return {name: float(values[index]) for name, values in scored.components.items()}
