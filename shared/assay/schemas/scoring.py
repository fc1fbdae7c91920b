"""Requests and replies of the routes that score: score, strength, contrastive, best-of-n."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from assay.schemas.base import Inbound, Outbound, example
from assay.schemas.text import Completion, Prompt

Aggregate = Literal["mean", "min", "lcb"]
Action = Literal["flip", "smooth", "keep"]
BaselineSource = Literal["inline", "stored", "leave_one_out"]
_PROMPT = "What is the capital of France?"
_GOOD, _POOR = "The capital of France is Paris.", "France is a country."
_GROUP = {"prompt": _PROMPT, "completions": [_GOOD, _POOR]}

ModelPin = Annotated[str, Field(min_length=1, max_length=256)]


class Group(Inbound):
    """One prompt with its completions."""

    prompt: Prompt = Field(description="Text, HH-style text, or chat messages.")
    completions: list[Completion] = Field(
        min_length=1,
        fail_fast=True,
        description="Each a non-empty text, or assistant and tool messages.",
    )
    labels: list[Any] | None = Field(
        default=None,
        description="One per completion, for the rules of a composite; reward models ignore it.",
    )
    finished: Annotated[list[bool], Field(fail_fast=True)] | None = Field(
        default=None,
        description="One per completion; false = cut by the token limit, so no end token is added.",
    )

    @model_validator(mode="after")
    def _one_per_completion(self) -> Group:
        for name in ("labels", "finished"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.completions):
                raise ValueError(
                    f"{name} has {len(values)} entries for {len(self.completions)} completions"
                )
        return self


class ScoringOptions(Inbound):
    """What every scoring request may carry."""

    model: ModelPin | None = Field(
        default=None,
        description="`name` or `name@7`: the version that must answer. None = the serving one.",
    )
    truncate: Literal["left", "error"] = Field(
        default="left",
        description="Too long: drop the oldest prompt tokens, or refuse with 422.",
    )
    raw: bool = Field(
        default=False, description="True = no chat template and no parsing of HH-style text."
    )
    members: bool = Field(default=False, description="True = also the value of each member.")


class AggregateOptions(ScoringOptions):
    """How the members of an ensemble become one number."""

    aggregate: Aggregate = Field(
        default="mean", description="`mean`, `min`, or `lcb` = mean - lcb_k * std over members."
    )
    lcb_k: float = Field(default=1.0, ge=0.0, le=100.0, description="Standard deviations of `lcb`.")


class ScoreRequest(AggregateOptions):
    """`POST /v1/score`."""

    model_config = example(groups=[_GROUP], aggregate="mean")

    groups: list[Group] = Field(min_length=1, fail_fast=True)


class GroupScores(Outbound):
    """Scores of one group, one entry per completion in each list."""

    scores: list[float | None] = Field(
        description="The aggregate over members; null = a rule of a composite gave no score."
    )
    std: list[float | None] | None = Field(
        description="Population std over members; null with one member or without calibration."
    )
    members: list[list[float] | None] | None = Field(
        default=None, description="If asked for: per completion, one score per member."
    )
    components: dict[str, list[float | None]] | None = Field(
        default=None,
        description="Of a composite: what each part adds; they sum to the mean over members.",
    )
    tokens: list[int] = Field(description="Tokens that were scored.")
    truncated: list[bool] = Field(description="True = the oldest prompt tokens were dropped.")


class ScoreResponse(Outbound):
    """Reply of `POST /v1/score`."""

    model: str = Field(description="The version that scored everything here: `name@7`.")
    format: str = Field(description="How prompts and completions were joined.")
    results: list[GroupScores]


class Pair(Inbound):
    """Two completions of one prompt; `chosen` is the one that is held to be better."""

    prompt: Prompt
    chosen: Completion
    rejected: Completion


class StrengthRequest(ScoringOptions):
    """`POST /v1/strength`."""

    model_config = example(pairs=[{"prompt": _PROMPT, "chosen": _GOOD, "rejected": _POOR}])

    pairs: list[Pair] = Field(min_length=1, fail_fast=True)


class PairStrength(Outbound):
    """How strongly the ensemble prefers `chosen` (arXiv 2401.06080, section 2.2).

    Of a composite it is the served ensemble alone that is asked: its calibration knows nothing of
    the other parts.
    """

    mean: float = Field(description="Mean over members of score(chosen) - score(rejected).")
    std: float | None = Field(description="Population std over members; null with one member.")
    votes: int = Field(description="Members whose difference is above 0.")
    members: int = Field(description="Members of the ensemble.")
    probability: float = Field(description="Mean over members of sigmoid(difference / T).")
    quantile: float | None = Field(
        description="Share of the calibration pairs with a lower mean; null outside their range."
    )
    action: Action | None = Field(
        description="`flip`: quantile below .10 and mean below 0; `smooth`: below .40; else `keep`."
    )
    differences: list[float] | None = Field(
        default=None, description="If asked for: the difference of each member."
    )


class StrengthResponse(Outbound):
    """Reply of `POST /v1/strength`."""

    model: str
    results: list[PairStrength]


class ContrastiveGroup(Group):
    """One prompt with its completions and, if at hand, baseline completions."""

    baselines: Annotated[list[Completion], Field(min_length=1, fail_fast=True)] | None = Field(
        default=None,
        description="Completions of the base policy. None = stored ones.",
    )


class ContrastiveOptions(AggregateOptions):
    """What is compared with which baselines, and how."""

    policy: str | None = Field(
        default=None, min_length=1, max_length=256, description="Whose stored baselines to use."
    )
    statistic: Literal["mean", "median"] = Field(
        default="mean", description="How the baseline scores of a prompt become one number."
    )
    shape: Literal["none", "sigmoid"] = Field(
        default="none",
        description="`sigmoid`: statistic over baselines of sigmoid(score - baseline), in (0, 1).",
    )
    missing: Literal["error", "leave_one_out"] = Field(
        default="error",
        description="No baseline: 422, or the other completions of the group stand in.",
    )


class ContrastiveRequest(ContrastiveOptions):
    """`POST /v1/contrastive`."""

    model_config = example(groups=[{**_GROUP, "baselines": ["It is Paris.", "I do not know."]}])

    groups: list[ContrastiveGroup] = Field(min_length=1, fail_fast=True)


class Baseline(Outbound):
    """The baseline that was subtracted, on the scale of the scores (mean over members)."""

    value: float = Field(description="Statistic of the baseline scores; all of them, if left out.")
    std: float = Field(description="Population std of the baseline scores.")
    count: int = Field(description="Baseline completions that each completion was compared with.")
    source: BaselineSource


class GroupRewards(Outbound):
    """Contrastive rewards of one group (arXiv 2403.07708), one entry per completion."""

    rewards: list[float | None] = Field(
        description="null = the completion, or all that it is compared with, has no score."
    )
    scores: list[float | None]
    std: list[float | None] | None = Field(
        description="Population std over members of the reward; null as for scores."
    )
    baseline: Baseline | None = Field(
        description="null = a rule of a composite gave none of the baselines a score."
    )
    members: list[list[float] | None] | None = Field(
        default=None, description="If asked for: per completion, the reward of each member."
    )


class ContrastiveResponse(Outbound):
    """Reply of `POST /v1/contrastive`."""

    model: str
    results: list[GroupRewards]


class BestOfNRequest(AggregateOptions):
    """`POST /v1/best-of-n`."""

    model_config = example(groups=[_GROUP])

    groups: list[Group] = Field(min_length=1, fail_fast=True)


class BestOfN(Outbound):
    """The best completion of one group."""

    index: int | None = Field(
        description="Position of the highest score, the first one of equals; null = there is none."
    )
    scores: list[float | None]


class BestOfNResponse(Outbound):
    """Reply of `POST /v1/best-of-n`."""

    model: str
    results: list[BestOfN]
