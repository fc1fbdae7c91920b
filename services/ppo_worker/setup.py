"""The parts of a run that stay what they are, handed around as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelerate import Accelerator

from assay.schemas.text import Prompt
from ppo_worker.experience import measure_all
from ppo_worker.loading import Codec
from ppo_worker.policy import LanguageModel, Measured, Policy
from ppo_worker.prompts import Prompts
from ppo_worker.reward_source import RewardSource
from ppo_worker.rollout import Rollout, sample
from ppo_worker.seeds import seeded
from ppo_worker.settings import PPOSettings
from ppo_worker.tokens import Tokens


@dataclass(frozen=True)
class Setup:
    """Who is trained, on what, and by whose rewards.

    Attributes:
        settings: everything that can be chosen.
        policy: on its device; its weights change.
        codec: of the policy.
        prompts: to train and to measure on.
        source: of rewards.
        accelerator: device and precision.
    """

    settings: PPOSettings
    policy: Policy
    codec: Codec
    prompts: Prompts
    source: RewardSource
    accelerator: Accelerator

    def sample(
        self,
        model: LanguageModel,
        prompts: Sequence[Prompt],
        size: int,
        purpose: str,
        number: int,
    ) -> Rollout:
        """Completions by the policy or its reference; purpose and number decide what is drawn."""
        settings = self.settings
        with seeded(settings.seed, purpose, number), self.accelerator.autocast():
            return sample(model, self.codec, prompts, size, settings.micro_batch)

    def measure(self, tokens: Tokens) -> Measured:
        """Policy, reference and critic on completions; results are on the CPU."""
        with self.accelerator.autocast():
            return measure_all(self.policy, tokens, self.settings.micro_batch)
