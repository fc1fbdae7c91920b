"""Settings of the PPO worker: `ASSAY_*` variables, `.env`, or flags of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

RewardMode = Literal["score", "contrastive", "lcb"]

# What `--demo` changes in the defaults: for a policy of a few million parameters on two CPU cores.
DEMO: dict[str, Any] = {
    "policy_name": "demo",
    "reward": "contrastive",
    "steps": 30,
    "critic_steps": 2,
    "prompts_per_step": 16,
    "completions_per_prompt": 4,
    "mini_batch": 32,
    "max_new_tokens": 56,
    "policy_learning_rate": 1e-4,
    "value_learning_rate": 1e-3,
    "evaluate_steps": 10,
    "held_out_completions": 8,
}


class PPOSettings(BaseSettings):
    """`assay ppo`: train a policy with PPO against the rewards of a running server.

    `assay ppo report RUN` draws what a run has written. The same command goes on where a killed
    run stopped.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_",
        env_file=".env",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    demo: bool = Field(
        default=False, description="The embedded policy and its prompts, on a laptop's CPU."
    )
    policy: str | None = Field(
        default=None, description="Causal language model to train: a folder or a hub id."
    )
    policy_name: str = Field(
        default="ppo",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Under which its samples and baselines are stored.",
    )
    prompts: Path | None = Field(
        default=None, description="Prompts: one a line, or JSON lines with `prompt` and `split`."
    )
    run: Path | None = Field(
        default=None, description="Folder of the run; None = `ppo/POLICY_NAME` in the home folder."
    )
    home: Path = Field(default=Path("~/.assay"), description="Folder for state.")
    url: str | None = Field(
        default=None, description="The reward server; None = http://127.0.0.1:8000."
    )
    wait_s: float = Field(
        default=3600.0, gt=0, description="Longest wait for a server that is gone, in a run."
    )

    reward: RewardMode = Field(
        default="score",
        description="`score`; `contrastive` = less the baseline's; `lcb` = that, less what the "
        "members of the ensemble differ by.",
    )
    lcb_k: float = Field(default=1.0, ge=0, le=100, description="Standard deviations of `lcb`.")
    baselines: int = Field(default=4, ge=1, description="Baseline completions of a prompt.")
    post_samples: bool = Field(default=True, description="Hand samples to the online trainer.")

    steps: int = Field(default=200, ge=1, description="Batches to sample and learn from.")
    critic_steps: int = Field(
        default=4, ge=0, description="Of these, the first ones train the value head alone."
    )
    prompts_per_step: int = Field(default=32, ge=1)
    completions_per_prompt: int = Field(default=4, ge=1)
    max_prompt_tokens: int = Field(default=512, ge=1)
    max_new_tokens: int = Field(default=128, ge=1, description="Longest completion.")
    temperature: float = Field(default=0.8, gt=0, description="Of the policy, in every part of it.")
    top_p: float = Field(default=0.9, gt=0, le=1, description="Nucleus that is sampled from.")

    reward_clip: float | None = Field(
        default=0.8, gt=0, description="Limit of the normalised reward; None = none."
    )
    missing_eos_penalty: float = Field(
        default=1.0, ge=0, description="Off the normalised reward of a completion without an end."
    )
    kl_coef: float = Field(default=0.05, ge=0, description="eta: penalty of the KL, per nat.")
    gamma: float = Field(default=1.0, ge=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    cliprange: float = Field(default=0.2, gt=0, lt=1)
    cliprange_value: float = Field(default=0.2, gt=0)
    vf_coef: float = Field(default=0.1, ge=0, description="Weight of the value loss.")
    epochs: int = Field(default=2, ge=1, description="Times that a batch is learned from.")
    mini_batch: int = Field(default=32, ge=1, description="Completions of an optimizer step.")
    micro_batch: int = Field(default=32, ge=1, description="Completions in the model at once.")
    policy_learning_rate: float = Field(default=1e-5, gt=0)
    value_learning_rate: float = Field(default=1e-4, gt=0, description="Of the value head.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Global, over all parameters.")
    ptx_coef: float = Field(default=0.0, ge=0, description="Weight of the loss on `ptx_texts`.")
    ptx_texts: Path | None = Field(
        default=None, description="Texts not to forget: one a line, or JSON lines with `text`."
    )
    lora_rank: int | None = Field(
        default=None, ge=1, description="Train LoRA adapters of this rank; None = all weights."
    )

    evaluate_steps: int = Field(
        default=20, ge=1, description="Steps between two measurements on held-out prompts."
    )
    held_out_completions: int = Field(default=4, ge=1, description="Of each prompt, in these.")
    checkpoint_steps: int = Field(default=1, ge=1, description="Steps between two checkpoints.")
    seed: int = Field(default=0, ge=0, description="Decides everything that is drawn.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="`auto` = the one that accelerate finds."
    )
    precision: Literal["no", "bf16"] = Field(default="no", description="Mixed precision.")
    torch_threads: int | None = Field(default=None, ge=1, description="CPU threads of the model.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @model_validator(mode="before")
    @classmethod
    def _demo(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The demo's defaults, below whatever is named."""
        wanted = str(values.get("demo", False)).lower() in ("true", "1", "yes", "on")
        return {**DEMO, **values} if wanted else values

    @field_validator("home", mode="after")
    @classmethod
    def _expand(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @model_validator(mode="after")
    def _consistent(self) -> PPOSettings:
        if not self.demo and (self.policy is None or self.prompts is None):
            raise ValueError("policy and prompts are needed, or --demo")
        if bool(self.ptx_coef) != (self.ptx_texts is not None):
            raise ValueError("ptx_coef and ptx_texts go together: give both, or none")
        if self.critic_steps >= self.steps:
            raise ValueError(
                f"critic_steps {self.critic_steps} leaves the policy none of {self.steps} steps: "
                "lower it, or raise steps"
            )
        if self.micro_batch > self.mini_batch:
            raise ValueError(
                f"micro_batch {self.micro_batch} exceeds mini_batch {self.mini_batch}: lower it"
            )
        return self

    @property
    def folder(self) -> Path:
        """Where the run keeps everything."""
        return (self.run or self.home / "ppo" / self.policy_name).expanduser().absolute()
