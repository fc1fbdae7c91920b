"""Settings of the online trainer: `ASSAY_*` variables, `.env`, or flags of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from assay.models.resolve import DEFAULT_MODEL
from assay.registry.settings import StoreSettings
from reward_trainer.online.options import Limits, OptimizerName, RuleName, RuleOptions


class TrainerSettings(StoreSettings):
    """Everything that an operator can choose about the online trainer."""

    preferences: str | None = Field(
        default=None,
        description="Preference pairs: file, folder or hub id. None = the stream is left alone.",
    )
    model: str = Field(default=DEFAULT_MODEL, min_length=1, description="Name of the model.")
    trainer_folder: Path | None = Field(
        default=None, description="The trainer's own state; None = `trainer` in the home folder."
    )
    redis_url: SecretStr | None = Field(default=None, description="Redis with the stream.")

    update_rule: RuleName = Field(default="vanilla", description="How samples change the model.")
    promote: Literal["manual", "auto"] = Field(
        default="manual",
        description="`auto`: versions that pass the gate are served; `manual`: a person decides.",
    )
    swap_when: Literal["quiet", "now"] = Field(
        default="quiet", description="When a promoted version takes over."
    )
    optimizer: OptimizerName = "adamw"
    learning_rate: float = Field(default=1e-4, ge=0, description="alpha of the update.")
    ascent_rate: float = Field(default=1e-4, ge=0, description="eta, of the ascent of J.")
    ascent_optimizer: OptimizerName = Field(
        default="sgd", description="Of `literal`; sgd = the printed algorithm."
    )
    joint_weight: float = Field(default=0.5, ge=0, description="Weight of J under `joint`.")
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=1.0, gt=0, description="Largest norm of a gradient.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="In the trained layers.")
    seed: int = Field(default=0, ge=0, description="Decides the order of the pairs and dropout.")
    pairs_per_update: int = Field(default=16, ge=1, description="Stored pairs in an update.")
    groups_per_update: int = Field(default=16, ge=1, description="Groups of samples in an update.")
    train_tokens: int = Field(default=512, ge=8, description="Longest input in training.")
    device: str = Field(default="auto", description="`auto` = cuda if there is one, else cpu.")
    torch_threads: int | None = Field(
        default=None, ge=1, description="CPU threads; None = half of the cores."
    )
    nice: int = Field(default=10, ge=0, le=19, description="How far the trainer stands back.")

    k_max: int = Field(default=8, ge=2, description="Most completions of a group.")
    join_span: int = Field(
        default=512, ge=1, description="A group is complete after so many more entries."
    )
    policies: tuple[str, ...] | None = Field(
        default=None, description="Policies to learn from; None = all."
    )
    max_policy_lag: int | None = Field(
        default=None, ge=0, description="Steps that a sample may be behind its policy; None = any."
    )
    max_characters: int = Field(default=100_000, ge=1, description="Of one text of a sample.")
    near_duplicate: float = Field(
        default=0.9, gt=0, description="Completions that are so similar (0 to 1) are one."
    )

    publish_updates: int = Field(default=100, ge=1, description="Updates between two versions.")
    checkpoint_updates: int = Field(default=1, ge=1, description="Updates between two checkpoints.")
    max_rejections: int = Field(
        default=3, ge=1, description="Versions rejected in a row before training pauses."
    )
    resume: bool = Field(default=False, description="Go on after a pause.")
    lease_ttl_s: float = Field(
        default=15.0, gt=0, description="A trainer that is silent for longer is replaced."
    )
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port for Prometheus; None = off."
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address of that port. No key is asked for there."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    crash_at: str | None = Field(
        default=None, description="For tests: `POINT[:N]` at which the process kills itself."
    )

    @model_validator(mode="after")
    def _consistent(self) -> TrainerSettings:
        if self.publish_updates % self.checkpoint_updates:
            raise ValueError(
                f"publish_updates {self.publish_updates} is no multiple of checkpoint_updates "
                f"{self.checkpoint_updates}: a version is made at a checkpoint"
            )
        return self

    @property
    def rule_options(self) -> RuleOptions:
        """The rule and its numbers."""
        return RuleOptions(
            rule=self.update_rule,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            ascent_rate=self.ascent_rate,
            ascent=self.ascent_optimizer,
            joint_weight=self.joint_weight,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
        )

    @property
    def limits(self) -> Limits:
        """What a sample may be."""
        return Limits(
            policies=self.policies,
            max_policy_lag=self.max_policy_lag,
            max_characters=self.max_characters,
            near_duplicate=self.near_duplicate,
        )

    @property
    def folder(self) -> Path:
        """Where the trainer keeps what is its own."""
        return self.trainer_folder or self.home / "trainer"
