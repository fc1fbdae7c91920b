"""transformers' Trainer with the pairwise loss: everything distributed is its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainingArguments

from assay.errors import DataError, ScoringError
from reward_trainer.fit.checkpoints import last_checkpoint
from reward_trainer.fit.losses import dev_sums, step_loss
from reward_trainer.fit.recipe import Objective
from reward_trainer.fit.scorer import StepScorer
from reward_trainer.fit.steps import StepDataset

_NAMED_ROWS = 8


class RankingTrainer(Trainer):
    """Trains one member.

    Args:
        name: of the member, for messages.
        objective: what is minimised.
        scorer: the module that is trained.
        args: see `TrainingArguments`.
        train: the steps of an epoch, each one an example for the Trainer.
        dev: pairs to watch the training with, or None.
    """

    def __init__(
        self,
        name: str,
        objective: Objective,
        scorer: StepScorer,
        args: TrainingArguments,
        train: StepDataset,
        dev: StepDataset | None,
        **rest: Any,
    ) -> None:
        super().__init__(model=scorer, args=args, train_dataset=train, eval_dataset=dev, **rest)
        self._scorer, self._train = scorer, train
        self._name = name
        self._objective = objective
        self._folder = Path(str(args.output_dir))
        self._rows: list[str] = []
        self._measured: list[dict[str, Tensor]] = []

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of a step; see `Trainer.compute_loss`.

        Raises:
            ScoringError: it is not finite; the step and its rows are named.
        """
        views = 1 if self._objective.contrastive == "none" else 2
        scores = model(inputs["batches"], inputs["texts"], views)
        scorer = self._scorer
        loss = step_loss(scores, inputs, self._objective, scorer.head_weight, scorer.prototypes)
        if not loss.total.isfinite():
            raise ScoringError(self._not_finite(f"the loss is {loss.total.item()}", inputs["rows"]))
        self._rows = inputs["rows"]
        self._measured.append(loss.measured)
        return (loss.total, scores) if return_outputs else loss.total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means over the steps since the last log."""
        if "loss" in logs and self._measured:
            for name in self._measured[0]:
                values = torch.stack([measured[name] for measured in self._measured])
                logs[name] = values.mean().item()
            self._measured.clear()
        super().log(logs, start_time)

    def evaluate(
        self,
        eval_dataset: Dataset[Any] | dict[str, Dataset[Any]] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the dev pairs under plain Bradley-Terry, whatever the training's objective."""
        model = self._scorer
        model.eval()
        sums = torch.zeros(5, device=self.args.device, dtype=torch.float64)
        with torch.no_grad():
            for step in self.get_eval_dataloader():
                step = self._prepare_inputs(step)
                sums += dev_sums(model(step["batches"], step["texts"]), step)
        count, loss, right, score, gap = self.accelerator.reduce(sums).tolist()
        metrics = {"loss": loss, "accuracy": right, "score": score, "gap": gap}
        metrics = {f"{metric_key_prefix}_{name}": v / count for name, v in metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clip, and stop before gradients that are not finite reach the weights."""
        norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        skips_such_steps = self.accelerator.scaler is not None  # fp16
        if not skips_such_steps and not bool(torch.as_tensor(norm).isfinite()):
            raise ScoringError(self._not_finite("a gradient is not finite", self._rows))
        return norm

    def _not_finite(self, what: str, rows: list[str]) -> str:
        shown = ", ".join(rows[:_NAMED_ROWS])
        more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
        kept = last_checkpoint(self._folder)
        return (
            f"{self._name}, step {self.state.global_step + 1}: {what} ({shown}{more}); look at "
            f"those pairs, or lower the learning rate; last good checkpoint: {kept or 'none yet'}"
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self._train)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if state_dict is None:
            named = self._scorer.named_parameters()
            state_dict = {name: weight for name, weight in named if weight.requires_grad}
        super()._save(output_dir, state_dict)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Frozen weights are in no checkpoint: that they are missing says nothing."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            folder = self._folder / f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder, ignore_errors=True)
            raise DataError(
                f"{folder} cannot be written: {error}; free some disk and run the same command: it "
                f"goes on from {last_checkpoint(self._folder) or 'the start'}"
            ) from error
