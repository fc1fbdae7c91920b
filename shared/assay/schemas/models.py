"""The model cards of `GET /v1/models`, in the list format that OpenAI clients read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, computed_field

from assay.schemas.base import Outbound


class Calibration(Outbound):
    """What was measured on pairs that no member was trained on."""

    pairs: int = Field(ge=1, description="Calibration pairs.")
    cross_fitted: bool = Field(
        default=False,
        description="True = measured by members trained likewise but without the pairs.",
    )
    offsets: list[float] = Field(description="Per member: what was taken off the head's bias.")
    temperature: float = Field(gt=0, description="T of the preference probability.")
    quantiles: list[float] = Field(
        min_length=2, description="Equally spaced quantiles of the mean difference, lowest first."
    )
    digest: str = Field(description="SHA-256 of the calibration pairs.")


class ModelInfo(Outbound):
    """What Assay knows of a version beyond its id."""

    alias: list[str] = Field(description="Aliases that point here: `serving` ...")
    replicas: int = Field(description="Replicas that hold this version.")
    format: str = Field(description="Input format: chat, pair or concat.")
    pool: str = Field(description="Where the score is read off; see the note.")
    notes: list[str] = Field(default_factory=list, description="What a user should know.")
    members: int
    max_tokens: int = Field(description="Longest input in tokens; longer ones lose prompt tokens.")
    digest: str = Field(description="SHA-256 that identifies the artifact.")
    lineage: list[str] = Field(description="Parent versions, nearest first.")
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    calibration: Calibration | None


class ModelCard(Outbound):
    """One version."""

    id: str = Field(description="`name@7`.")
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Unix time at which the version was made.")
    owned_by: str = "assay"
    assay: ModelInfo

    @computed_field(description="The name without the version, where vLLM has the path.")  # type: ignore[prop-decorator]
    @property
    def root(self) -> str:
        """For vLLM's clients."""
        return self.id.partition("@")[0]

    @computed_field(description="`max_tokens`, as vLLM's clients look for it.")  # type: ignore[prop-decorator]
    @property
    def max_model_len(self) -> int:
        """For vLLM's clients."""
        return self.assay.max_tokens


class ModelList(Outbound):
    """Reply of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
