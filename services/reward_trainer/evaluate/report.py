"""What `assay evaluate` finds, as it is written to a JSON file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reward_trainer.evaluate.accuracy import Accuracy, Comparison
from reward_trainer.evaluate.agreement import Agreement, Rater
from reward_trainer.evaluate.calibration import FoldedCalibration
from reward_trainer.evaluate.length import ScoreByLength
from reward_trainer.evaluate.reward_bench import RewardBenchRow
from reward_trainer.evaluate.reward_bench_2 import RewardBench2Row
from reward_trainer.evaluate.rm_bench import RmBenchRow


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Data(_Record):
    """What was evaluated on."""

    location: str
    split: str | None
    kind: Literal["pairs", "rm-bench", "reward-bench-2"]
    rows: int
    roots: int = Field(description="What the intervals resample.")
    group: str = Field(description="`root`, `prompt` or the column that roots are from.")
    digest: str = Field(description="SHA-256 of the texts and their labels, whatever their order.")


class PairResults(_Record):
    """One model on preference pairs."""

    kind: Literal["pairs"] = "pairs"
    accuracy: list[Accuracy]
    calibration: FoldedCalibration
    length: ScoreByLength
    reward_bench: list[RewardBenchRow] | None = Field(
        description="If all subsets are those of RewardBench."
    )


class RmBenchResults(_Record):
    """One model on RM-Bench, beside a model that prefers the longer text."""

    kind: Literal["rm-bench"] = "rm-bench"
    rows: list[RmBenchRow]
    longer: list[RmBenchRow]


class RewardBench2Results(_Record):
    """One model on RewardBench 2, beside a model that prefers the longer text."""

    kind: Literal["reward-bench-2"] = "reward-bench-2"
    rows: list[RewardBench2Row]
    longer: list[RewardBench2Row]


class ModelReport(_Record):
    """One model."""

    name: str = Field(description="Version, with its place if both models have the same name.")
    members: int
    max_tokens: int = Field(description="Longest input.")
    truncated: int = Field(description="Distinct texts that lost prompt tokens to that limit.")
    texts: int = Field(description="Distinct texts.")
    results: PairResults | RmBenchResults | RewardBench2Results = Field(discriminator="kind")


class Raters(_Record):
    """Label columns and models as raters of the same pairs."""

    raters: list[Rater]
    agreement: list[Agreement]


class Report(_Record):
    """One run of `assay evaluate`."""

    schema_version: Literal[1] = 1
    data: Data
    models: list[ModelReport]
    comparison: list[Comparison] | None = Field(description="First model minus second.")
    raters: Raters | None = Field(description="With `--labels`.")
