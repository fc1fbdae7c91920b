"""The training itself: an ensemble, its random numbers, and the state that goes with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from assay.models.inputs import InputEncoder
from assay.models.scorer import EncodedInput
from assay.schemas.text import Completion, Prompt
from reward_trainer.online.batches import Preferences, group_batch, pair_batch
from reward_trainer.online.checkpoint import Checkpoint
from reward_trainer.online.ensemble import LearningEnsemble
from reward_trainer.online.settings import TrainerSettings
from reward_trainer.online.state import State
from reward_trainer.online.step import StepRecord, take_step
from reward_trainer.online.versions import Versions
from reward_trainer.online.watch import remember

_WARNED = 500  # policies have names from clients


class Learning:
    """What goes on learning; every method blocks.

    Args:
        settings: the rule and its numbers.
        versions: where weights come from.
        preferences: stored pairs to train on.
        state: changed in place by every method.
    """

    def __init__(
        self, settings: TrainerSettings, versions: Versions, preferences: Preferences, state: State
    ) -> None:
        self._settings, self._versions, self._preferences = settings, versions, preferences
        self.state = state
        self._begin(state.parent)

    def encode(self, prompt: Prompt, completion: Completion) -> EncodedInput:
        """A text as it is trained on."""
        return self._train_encoder.encode(prompt, completion)

    def step(self) -> StepRecord:
        """One update with the groups at the head of the queue.

        Raises:
            ScoringError: something is not finite; see `return_to`.
        """
        settings, state = self._settings, self.state
        groups = state.queue[: settings.groups_per_update]
        pairs = self._preferences.batch(state.steps, settings.pairs_per_update)
        state.queue = state.queue[settings.groups_per_update :]
        state.steps += 1
        state.updates += 1
        batches = pair_batch(pairs, self.encode), group_batch(groups, self.encode)
        with self._own_random_numbers():
            record = take_step(self.ensemble, *batches, groups)
        state.history = remember(state.history, record)
        state.warned = state.warned[-_WARNED:]
        return record

    def return_to(self, version: int) -> None:
        """Go on from a version, as a lineage of its own with optimizers that have no past."""
        state = self.state
        text = f"{state.lineage}:{state.updates}:{version}"
        state.lineage = hashlib.sha256(text.encode()).hexdigest()[:32]
        state.updates, state.parent = 0, version
        state.history, state.warned = [], []
        self._begin(version)

    def tensors(self) -> dict[str, Any]:
        """What a checkpoint needs beside the state."""
        return {
            "weights": self.ensemble.weights(),
            "learners": [learner.state() for learner in self.ensemble.learners],
            "random": self._random,
        }

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Go on from what `tensors` gave.

        Raises:
            ModelLoadError: they are of another model.
        """
        self.ensemble.load_weights(tensors["weights"])
        for learner, own in zip(self.ensemble.learners, tensors["learners"], strict=True):
            learner.load_state(own)
        self._random = tensors["random"]

    @classmethod
    def resumed(
        cls,
        settings: TrainerSettings,
        versions: Versions,
        preferences: Preferences,
        checkpoint: Checkpoint,
    ) -> Learning:
        """What a checkpoint holds."""
        learning = cls(settings, versions, preferences, checkpoint.state)
        learning.restore(checkpoint.tensors)
        return learning

    def _begin(self, version: int) -> None:
        model = self._versions.load(version)
        settings = self._settings
        self.encoder: InputEncoder = model.encoder
        limit = min(model.encoder.max_tokens, settings.train_tokens)
        self._train_encoder = replace(model.encoder, max_tokens=limit)
        self.ensemble = LearningEnsemble(model.members, settings.rule_options, settings.dropout)
        self._random = torch.Generator().manual_seed(settings.seed).get_state()

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Dropout that depends on the updates before, whatever else uses torch's numbers.

        On a GPU they start anew with each update, from numbers of the CPU's.
        """
        with torch.random.fork_rng():
            torch.set_rng_state(self._random)
            if torch.cuda.is_available():
                torch.cuda.manual_seed_all(int(torch.randint(2**62, ())))
            yield
            self._random = torch.get_rng_state()
