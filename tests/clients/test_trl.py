"""TRL's own trainers, for a few steps with a tiny policy, and the rewards that they trained on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from assay.integrations.trl import AssayReward, AsyncAssayReward
from native import native_score

pytestmark = pytest.mark.filterwarnings("default")  # what TRL and torch warn of is theirs

TRAINERS: dict[str, tuple[Any, Any]] = {
    "grpo": (GRPOTrainer, GRPOConfig),
    "rloo": (RLOOTrainer, RLOOConfig),
}
QUESTIONS = ["Why?", "How many?"]
Seen = list[tuple[Any, Any, float | None]]


class Recording(AssayReward):
    """Remembers what the trainer asked and got."""

    seen: Seen

    def __call__(self, prompts: Any, completions: Any, *args: Any, **columns: Any) -> Any:
        rewards = super().__call__(prompts, completions, *args, **columns)
        self.seen = [*zip(prompts, completions, rewards, strict=True)]
        return rewards


class AsyncRecording(AsyncAssayReward):
    """The same as a coroutine."""

    seen: Seen

    async def __call__(self, prompts: Any, completions: Any, *args: Any, **columns: Any) -> Any:
        rewards = await super().__call__(prompts, completions, *args, **columns)
        self.seen = [*zip(prompts, completions, rewards, strict=True)]
        return rewards


def rows(conversational: bool) -> datasets.Dataset:
    prompts: list[Any] = [
        [{"role": "user", "content": question}] if conversational else question
        for question in QUESTIONS
    ]
    return datasets.Dataset.from_dict({"prompt": prompts * 2, "label": ["a", "b"] * 2})


@pytest.mark.parametrize("conversational", [False, True], ids=["plain", "conversational"])
@pytest.mark.parametrize("name", TRAINERS)
def test_trl_trains_on_the_scores_of_the_native_route(
    url: str, policy: Path, tmp_path: Path, name: str, conversational: bool
) -> None:
    trainer_class, config_class = TRAINERS[name]
    waits, awaits = Recording(url=url), AsyncRecording(url=url, reward="lcb")
    trainer = trainer_class(
        model=str(policy),
        reward_funcs=[waits, awaits],
        args=config_class(
            output_dir=str(tmp_path),
            max_steps=2,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=8,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=rows(conversational),
    )
    trainer.train()
    asyncio.run_coroutine_threadsafe(awaits.aclose(), trainer.async_loop).result()
    waits.close()

    assert len(waits.seen) == len(awaits.seen) == 4
    for prompt, completion, reward in waits.seen:
        sent = completion or [{"role": "assistant", "content": ""}]
        assert reward == pytest.approx(native_score(url, prompt, sent)["score"], abs=1e-5)
    for prompt, completion, reward in awaits.seen:
        sent = completion or [{"role": "assistant", "content": ""}]
        lcb = native_score(url, prompt, sent, aggregate="lcb")["score"]
        assert reward == pytest.approx(lcb, abs=1e-5)
    logged = trainer.state.log_history[1]
    mean = torch.tensor([reward for _, _, reward in waits.seen]).mean()
    assert logged["rewards/Recording/mean"] == pytest.approx(float(mean), abs=1e-4)
    assert logged["assay/version"] == 1.0
    assert logged["assay/std"] > 0
