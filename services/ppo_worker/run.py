"""Puts a run together: its folder, its parts, and where it goes on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from assay.errors import DataError, StartupError
from assay.files import sync
from assay.schemas.text import prompt_digest
from ppo_worker.baselines import baseline_policy, store_baselines
from ppo_worker.checkpoint import State, read_checkpoint
from ppo_worker.learning import Learner
from ppo_worker.loading import load_policy, save_policy
from ppo_worker.loop import Loop
from ppo_worker.metrics import Evaluation, Journal
from ppo_worker.progress import progress
from ppo_worker.prompts import Prompts, read_prompts, read_texts
from ppo_worker.ptx import Texts
from ppo_worker.reward_source import RewardSource
from ppo_worker.settings import PPOSettings
from ppo_worker.setup import Setup

POLICY = "policy"
_SETTINGS, _LOCK, _CHECKPOINTS = "settings.json", "lock", "checkpoints"
# What may change between two starts of a run: it is part of no number, or only of later ones.
FREE = {
    "demo", "home", "run", "url", "wait_s", "post_samples", "steps", "evaluate_steps",
    "checkpoint_steps", "device", "torch_threads", "log_level",
}  # fmt: skip


def train(settings: PPOSettings, console: Console | None) -> Evaluation:
    """Run all steps, or those that a killed run has left, and save the policy.

    Args:
        settings: see there.
        console: for a bar; None = none.

    Returns:
        The last measurement on held-out prompts.

    Raises:
        AssayError: what keeps it from training, or has ended it.
    """
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    with _own_folder(settings.folder) as folder, ExitStack() as stack:
        location, prompts = _task(settings)
        checkpoint = read_checkpoint(folder / _CHECKPOINTS)
        check = _same_run if checkpoint else _begin_run
        check(folder, _identity(settings, prompts))
        state = checkpoint.state if checkpoint else State(run_id=uuid.uuid4().hex)
        journal = stack.enter_context(closing(Journal(folder, state.step)))
        setup = _setup(settings, location, prompts, journal)
        stack.enter_context(closing(setup.source))
        setup.source.check(setup.prompts.train[0])
        learner = Learner(setup, _ptx_texts(setup))
        if checkpoint:
            setup.policy.load_trained_state(checkpoint.tensors["policy"])
            learner.load_state(checkpoint.tensors["optimizer"])
        loop = Loop(setup, learner, journal, state, folder / _CHECKPOINTS)
        if not checkpoint:
            loop.save()  # the run's id is in the keys of its samples
        _store_baselines(setup, journal)
        with progress(console, settings.steps, state.step) as show:
            loop.run(show)
        save_policy(setup.policy, setup.codec, folder / POLICY)
        return journal.evaluations[-1]


def _setup(settings: PPOSettings, location: str, prompts: Prompts, journal: Journal) -> Setup:
    accelerator = Accelerator(cpu=settings.device == "cpu", mixed_precision=settings.precision)
    if accelerator.num_processes > 1:
        raise StartupError("assay ppo is one process: start it without a launcher")
    if settings.device not in ("auto", accelerator.device.type):
        raise StartupError(f"device {settings.device} is not there: set --device auto")
    policy, codec = load_policy(settings, location)
    for prompt in (*prompts.train, *prompts.held_out):
        codec.encode(prompt)  # better now than in the middle of a run
    source = RewardSource(settings, baseline_policy(settings, location), journal.event)
    return Setup(
        settings, policy.to_device(accelerator.device), codec, prompts, source, accelerator
    )


def _task(settings: PPOSettings) -> tuple[str, Prompts]:
    """The base policy's location, and the prompts."""
    if settings.policy is not None and settings.prompts is not None:
        return settings.policy, read_prompts(settings.prompts, settings.seed)
    from ppo_worker.demo import task

    embedded = Prompts(task.training_prompts(), task.held_out_prompts())
    prompts = read_prompts(settings.prompts, settings.seed) if settings.prompts else embedded
    return settings.policy or str(task.POLICY), prompts


def _ptx_texts(setup: Setup) -> Texts | None:
    settings = setup.settings
    if settings.ptx_texts is None:
        return None
    limit = setup.codec.limit + settings.max_new_tokens
    return Texts(read_texts(settings.ptx_texts), setup.codec, limit, settings.seed)


def _store_baselines(setup: Setup, journal: Journal) -> None:
    settings = setup.settings
    if settings.reward == "score":
        return
    prompts = setup.prompts.visited(settings.prompts_per_step, settings.seed, settings.steps)
    stored = store_baselines(setup, prompts)
    journal.event("baselines", prompts=len(prompts), stored=stored)


@contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    """The run's folder, which one worker at a time writes to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise StartupError(f"run {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartupError(f"another worker writes to {folder}: set --run") from None
        yield folder


def _identity(settings: PPOSettings, prompts: Prompts) -> dict[str, Any]:
    """What a run goes on with, or is another one."""
    digests = [[prompt_digest(prompt) for prompt in part] for part in prompts.parts]
    prompts_sha256 = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
    now = settings.model_dump(mode="json", exclude=FREE)
    return {**now, "prompts_sha256": prompts_sha256}


def _begin_run(folder: Path, now: dict[str, Any]) -> None:
    """Without a checkpoint there is no run yet, whatever a start that failed has left."""
    path = folder / _SETTINGS
    try:
        path.write_text(json.dumps(now, indent=2) + "\n")
        sync(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


def _same_run(folder: Path, now: dict[str, Any]) -> None:
    """Go on with what the run began with, or say what is another."""
    path = folder / _SETTINGS
    try:
        before = json.loads(path.read_text())
        changed = [name for name, value in now.items() if before.get(name) != value]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} holds no settings: delete the run {folder}") from error
    if changed:
        raise StartupError(
            f"{folder} holds a run with another {', '.join(changed)}: set --run to a new folder, "
            "or delete it"
        )
