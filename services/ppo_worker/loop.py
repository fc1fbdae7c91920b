"""The loop: sample, have it scored, learn; and what is kept of each step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from assay.errors import ScoringError
from ppo_worker.checkpoint import State, write_checkpoint
from ppo_worker.evaluation import evaluate
from ppo_worker.experience import Experience, make_experience
from ppo_worker.learning import Learned, Learner
from ppo_worker.losses import masked_mean
from ppo_worker.metrics import Journal, StepRecord, mean
from ppo_worker.normaliser import RewardNormaliser
from ppo_worker.reward_source import Rewarded
from ppo_worker.rollout import Rollout
from ppo_worker.setup import Setup
from ppo_worker.watch import RULES

_FEWEST = 2  # rewards that a step can learn from: one alone has no spread


class Loop:
    """Trains a policy step by step; a step is a function of the one before and of the server.

    Args:
        setup: what does not change.
        learner: of the same policy.
        journal: where every step is written.
        state: where the run stands; changed in place.
        checkpoints: folder of checkpoints.
    """

    def __init__(
        self, setup: Setup, learner: Learner, journal: Journal, state: State, checkpoints: Path
    ) -> None:
        self._setup, self._learner, self._journal = setup, learner, journal
        self._state, self._checkpoints = state, checkpoints
        self._normaliser = RewardNormaliser(setup.settings.reward_clip, state.moments)

    def run(self, show: Callable[[StepRecord], None]) -> None:
        """All steps that are left.

        Args:
            show: is called after each step.

        Raises:
            ScoringError: something is not finite, or nothing has a score.
            AssayError: the server refuses, or was gone for too long.
        """
        settings, state = self._setup.settings, self._state
        if not self._journal.evaluations:
            self._evaluate()
        while state.step < settings.steps:
            record = self._step(state.step + 1)
            state.step += 1
            self._journal.step(record)
            self._warn()
            show(record)
            last = state.step == settings.steps
            if last or state.step % settings.evaluate_steps == 0:
                self._evaluate()
            if last or state.step % settings.checkpoint_steps == 0:
                self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {
            "policy": self._setup.policy.trained_state(),
            "optimizer": self._learner.state(),
        }
        write_checkpoint(self._checkpoints, self._state, tensors)

    def _step(self, step: int) -> StepRecord:
        setup, settings = self._setup, self._setup.settings
        started_s = time.monotonic()
        prompts = setup.prompts.batch(settings.prompts_per_step, settings.seed, step)
        size = settings.completions_per_prompt
        rollout = setup.sample(setup.policy.model, prompts, size, "rollout", step)
        sampled_s = time.monotonic()
        rewarded = self._rewarded(rollout, step)
        scored_s = time.monotonic()
        batch = self._experience(rollout, rewarded)
        learned = self._learner.learn(batch, step)
        seconds = sampled_s - started_s, scored_s - sampled_s, time.monotonic() - scored_s
        return _record(step, rollout, rewarded, batch, learned, seconds)

    def _rewarded(self, rollout: Rollout, step: int) -> Rewarded:
        source, state = self._setup.source, self._state
        rewarded = source.rewards(rollout)
        if len(rewarded.rows) < _FEWEST:
            raise ScoringError(
                f"step {step}: {len(rewarded.rows)} of {len(rollout.texts)} completions have a "
                f"score, and {_FEWEST} are needed"
            )
        if state.model_version not in (None, rewarded.model_version):
            self._journal.event("version", before=state.model_version, now=rewarded.model_version)
        state.model_version = rewarded.model_version
        if self._setup.settings.post_samples:
            source.post(rollout, step, state.run_id)
        return rewarded

    def _experience(self, rollout: Rollout, rewarded: Rewarded) -> Experience:
        """Of the completions that have a reward."""
        rows = rewarded.rows
        raw = torch.tensor(_present(rewarded.rewards), dtype=torch.float64)
        normal = self._normaliser(raw, rewarded.model_version)
        tokens = rollout.tokens.rows(torch.tensor(rows))
        finished = torch.tensor([rollout.finished[row] for row in rows])
        measured = self._setup.measure(tokens)
        return make_experience(tokens, measured, normal, finished, self._setup.settings)

    def _evaluate(self) -> None:
        known = self._journal.evaluations
        base = known[0] if known else None
        self._journal.evaluation(evaluate(self._setup, self._state.step, base))

    def _warn(self) -> None:
        for kind, rule in RULES.items():
            detail = None if kind in self._state.warned else rule(self._journal.steps)
            if detail is not None:
                self._state.warned.append(kind)
                self._journal.warning(kind, detail)


def _record(
    step: int,
    rollout: Rollout,
    rewarded: Rewarded,
    batch: Experience,
    learned: Learned,
    seconds: tuple[float, float, float],
) -> StepRecord:
    measured, mask = batch.measured, batch.tokens.completion_mask
    log_ratios = measured.logprobs - measured.ref_logprobs
    spreads = _present(rewarded.std)
    sample_s, score_s, learn_s = (round(part, 3) for part in seconds)
    return StepRecord(
        step=step,
        model_version=rewarded.model_version,
        score=mean(_present(rewarded.scores)),
        reward=mean(_present(rewarded.rewards)),
        optimised=batch.rewards.sum(dim=1).mean().item(),
        kl=log_ratios.sum(dim=1).mean().item(),
        length=batch.tokens.lengths.double().mean().item(),
        entropy=masked_mean(measured.entropies, mask).item(),
        perplexity=math.exp(-masked_mean(measured.logprobs, mask).item()),
        disagreement=mean(spreads) if spreads else None,
        unscored=len(rewarded.rewards) - len(rewarded.rows),
        unfinished=1 - mean([float(end) for end in rollout.finished]),
        sample_s=sample_s,
        score_s=score_s,
        learn_s=learn_s,
        **learned._asdict(),
    )


def _present(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]
