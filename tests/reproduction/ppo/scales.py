"""What is run: reward modes, seeds and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ppo_worker.settings import PPOSettings, RewardMode

MODES: tuple[RewardMode, ...] = ("score", "contrastive", "lcb")


class Scale(BaseModel):
    """One size of the study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    seeds: int = Field(ge=1, description="Proxies, and policies in each mode.")
    samples: int = Field(description="Completions of each training prompt that are labelled.")
    flipped: float = Field(description="Share of the labels that are turned round.")
    training: dict[str, Any] = Field(description="Of the proxy, by the recipe bt.")
    ppo: dict[str, Any] = Field(description="Flags of `assay ppo --demo`.")

    @property
    def settings(self) -> PPOSettings:
        """What the flags make of the demo's settings."""
        given = {name.replace("-", "_"): value for name, value in self.ppo.items()}
        return PPOSettings(_env_file=None, demo=True, **given)


class Spec(BaseModel):
    """One cell: a policy trained in one mode by one proxy."""

    model_config = ConfigDict(frozen=True)

    seed: int
    mode: RewardMode

    @property
    def name(self) -> str:
        return f"seed{self.seed}-{self.mode}"


def specs(scale: Scale) -> Iterator[Spec]:
    """All cells, a seed's modes together: they share a proxy."""
    for seed in range(scale.seeds):
        for mode in MODES:
            yield Spec(seed=seed, mode=mode)


_PROXY: dict[str, Any] = {
    "model": "proxy",
    "members": 5,
    "max_tokens": 128,
    "train_tokens": 128,
    "learning_rate": 1e-3,
    "epochs": 3,
    "step_tokens": 2000,
}

SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="smoke",
            seeds=1,
            samples=4,
            flipped=0.25,
            training={**_PROXY, "members": 2, "epochs": 1},
            ppo={
                "steps": 3,
                "critic-steps": 1,
                "prompts-per-step": 4,
                "evaluate-steps": 2,
                "max-new-tokens": 16,
                "held-out-completions": 2,
            },
        ),
        Scale(
            name="cpu",
            seeds=3,
            samples=16,
            flipped=0.25,
            training=_PROXY,
            ppo={"evaluate-steps": 6},
        ),
    )
}
