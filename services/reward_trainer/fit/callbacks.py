"""What goes on beside the training of a member: its bar, and what is warned of."""

from __future__ import annotations

import logging
from typing import Any

from rich.progress import Progress
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reward_trainer.fit.checkpoints import TrainingWarning
from reward_trainer.fit.watch import look

_LOG = logging.getLogger(__name__)
_SHOWN = {"loss": "loss", "accuracy": "accuracy", "eval_accuracy": "dev"}


class Bar(TrainerCallback):
    """One bar per member, with the last logged loss and accuracy."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name = name
        self._progress = progress
        self._shown: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._task = self._progress.add_task(
            self._name, total=state.max_steps, completed=state.global_step
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._progress.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        self._shown |= {_SHOWN[k]: v for k, v in (logs or {}).items() if k in _SHOWN}
        parts = [f"{name} {value:.3f}" for name, value in self._shown.items()]
        self._progress.update(self._task, description=" ".join([self._name, *parts]))


class Watch(TrainerCallback):
    """Warns once of each thing that the rules of `watch` find."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.warnings: list[TrainingWarning] = []

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        known = {warning.kind for warning in self.warnings}
        for warning in look(state.log_history, self._name, state.global_step, known):
            self.warnings.append(warning)
            if state.is_world_process_zero:
                fields = warning.model_dump(exclude={"kind", "values"}) | warning.values
                _LOG.warning(warning.kind, extra=fields)
