"""Training the members of a recipe one after another, in any number of processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from rich.progress import Progress
from transformers import TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from assay.errors import DataError, StartupError
from assay.models.members import Members
from reward_trainer.fit.callbacks import Bar, Watch
from reward_trainer.fit.checkpoints import (
    Outcome,
    is_done,
    last_checkpoint,
    read_outcome,
    read_weights,
    write_result,
)
from reward_trainer.fit.ensemble import Ensemble, Member, resolve_device
from reward_trainer.fit.losses import contrastive_options
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import Recipe
from reward_trainer.fit.scorer import StepScorer, model_weights
from reward_trainer.fit.steps import (
    EncodedPairs,
    StepCollator,
    StepDataset,
    encode_pairs,
    training_steps,
)
from reward_trainer.fit.trainer import RankingTrainer
from reward_trainer.fit.trunk_cache import TrunkCache

_EVALUATIONS, _LOGS = 8, 50
_WATCHED_PAIRS = 400
_CLIP_NORM = 1.0


@dataclass(frozen=True)
class Job:
    """Everything that the training of an ensemble needs; it travels to other processes.

    Attributes:
        recipe: how it is trained.
        train: pairs with their targets.
        dev: pairs to watch the training with; none = it is not watched.
        folder: where checkpoints and results go, on a disk that all processes share.
        device: `auto`, `cpu` or `cuda`.
        checkpoints: how many a member writes on its way.
        tensorboard: whether curves are written.
    """

    recipe: Recipe
    train: Sequence[Pair]
    dev: Sequence[Pair]
    folder: Path
    device: str = "auto"
    checkpoints: int = 0
    tensorboard: bool = False

    def member_folder(self, index: int) -> Path:
        """Where a member's checkpoints and result go."""
        return self.folder / f"member_{index}"

    @property
    def curves(self) -> Path:
        """Where TensorBoard's files go."""
        return self.folder / "tensorboard"


def job_digest(recipe: Recipe, pairs: Sequence[Pair]) -> str:
    """Equal for runs that end with the same weights, which may go on where another stopped."""
    rows = [[pair.key, pair.weight, pair.margin, pair.smoothing] for pair in pairs]
    text = json.dumps([recipe.model_dump(mode="json", exclude={"calibration_folds"}), rows])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_first_process(job: Job) -> bool:
    """Whether this process is the one that writes and reports; True if it is alone."""
    return int(_arguments(job, 0, steps=1).process_index) == 0


def train_members(job: Job, progress: Progress, cache: TrunkCache | None = None) -> None:
    """Train every member that is not done, each from its last checkpoint if there is one.

    Under torchrun, accelerate or Ray every process calls this; the first one writes the results.

    Raises:
        DataError: a pair cannot be read by the model, or the disk is full.
        ScoringError: a loss or gradient is not finite.
        ModelLoadError: the backbone is missing, or of a kind that cannot be trained.
    """
    if all(is_done(job.member_folder(index)) for index in range(job.recipe.members)):
        return
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{job.folder} cannot be written: {error.strerror}") from error
    own = cache or TrunkCache(job.folder / "trunk")
    try:
        _Run(job, progress, own).all_members()
    finally:
        if cache is None:
            own.close()


def trained_members(job: Job) -> tuple[Ensemble, Members, list[Outcome]]:
    """The finished ensemble, read from the job's folder."""
    folders = [job.member_folder(index) for index in range(job.recipe.members)]
    ensemble = Ensemble(job.recipe, job.device)
    members = ensemble.trained([read_weights(folder) for folder in folders])
    return ensemble, members, [read_outcome(folder) for folder in folders]


class _Run:
    """The parts that all members of a job share."""

    def __init__(self, job: Job, progress: Progress, cache: TrunkCache) -> None:
        self._job = job
        self._progress = progress
        self._cache = cache
        # Made once before anything loads: it sets up this process's device and its group.
        process = _arguments(job, 0, steps=1)
        self._processes, self._first = int(process.world_size), process.process_index == 0
        self._ensemble = Ensemble(job.recipe, job.device)
        encoder = self._ensemble.encoder(job.recipe.train_tokens)
        self._train = encode_pairs(job.train, encoder)
        _tell_of_cuts(self._train, encoder.max_tokens, progress)
        watched = list(job.dev)
        Random(0).shuffle(watched)
        self._dev = encode_pairs(watched[:_WATCHED_PAIRS], encoder)

    def all_members(self) -> None:
        for index in range(self._job.recipe.members):
            if not is_done(self._job.member_folder(index)):
                self._train_member(index)

    def _train_member(self, index: int) -> None:
        job = self._job
        folder = job.member_folder(index)
        watch = Watch(folder.name)
        trainer, scorer = self._trainer(index, watch)
        checkpoint = last_checkpoint(folder)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except OSError as error:
            raise DataError(
                f"{job.folder} cannot be written: {error}; free some disk and run the same command"
            ) from error
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if self._first:
            outcome = Outcome(
                steps=trainer.state.global_step,
                loss=_last_loss(trainer.state.log_history),
                warnings=tuple(watch.warnings),
            )
            write_result(folder, model_weights(state, scorer), outcome)
        trainer.accelerator.wait_for_everyone()

    def _trainer(self, index: int, watch: Watch) -> tuple[RankingTrainer, StepScorer]:
        job, recipe = self._job, self._job.recipe
        name = self._ensemble.names[index]
        member = self._ensemble.fresh(index)
        contrastive = contrastive_options(recipe.objective)
        scorer = StepScorer(member, (contrastive and contrastive.prototypes) or 0)
        passes = {source.name: source.passes for source in recipe.sources}
        train = self._steps(self._train, recipe.seed + index, passes)
        trainer = RankingTrainer(
            name,
            recipe.objective,
            scorer,
            _arguments(job, index, self._optimizer_steps(train)),
            train,
            self._steps(self._dev, 0, {}) if self._dev.pairs else None,
            data_collator=self._collator(member),
            callbacks=[watch, *self._reports(name)],
        )
        for default in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(default)
        return trainer, scorer

    def _steps(self, data: EncodedPairs, seed: int, passes: Mapping[str, int]) -> StepDataset:
        recipe = self._job.recipe
        return training_steps(data, passes, recipe.balance, recipe.step_tokens, seed)

    def _optimizer_steps(self, train: StepDataset) -> int:
        return -(-len(train) // self._processes) * self._job.recipe.epochs

    def _collator(self, member: Member) -> StepCollator:
        if member.trunk is None:
            return StepCollator(member.pooler.collate)
        trunk_id = self._ensemble.trunk_id
        texts = [*self._train.texts, *self._dev.texts]
        self._cache.fill(trunk_id, texts, member.pooler, member.trunk, self._progress)
        return StepCollator(member.pooler.collate, lambda text: self._cache[trunk_id, text.digest])

    def _reports(self, name: str) -> list[Any]:
        reports: list[Any] = [Bar(name, self._progress)]
        if self._job.tensorboard and self._first:
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(self._job.curves / name))
            reports.append(TensorBoardCallback(writer))  # type: ignore[no-untyped-call]
        return reports


def _arguments(job: Job, index: int, steps: int) -> TrainingArguments:
    recipe = job.recipe
    on_cpu = resolve_device(job.device) == "cpu"
    if on_cpu and recipe.precision == "fp16":
        raise StartupError("precision fp16 needs a GPU: choose bf16 or no")
    arguments = TrainingArguments(
        output_dir=str(job.member_folder(index)),
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(recipe.warmup * steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=_CLIP_NORM,
        seed=recipe.seed + index,
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "fp16",
        use_cpu=on_cpu,
        logging_steps=max(1, steps // _LOGS),
        logging_nan_inf_filter=False,
        eval_strategy="steps" if job.dev else "no",
        eval_steps=max(1, steps // _EVALUATIONS),
        save_strategy="steps" if job.checkpoints else "no",
        save_steps=max(1, steps // (job.checkpoints + 1)),
        save_total_limit=2,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        report_to="none",
        disable_tqdm=True,
    )
    # Several GPUs in one process would be torch's DataParallel, which cannot split a step.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _tell_of_cuts(data: EncodedPairs, max_tokens: int, progress: Progress) -> None:
    cut = sum(text.truncated for text in data.texts)
    equal = sum(chosen == rejected for chosen, rejected in data.sides)
    if cut:
        told = f"{cut:,} of {len(data.texts):,} texts are cut to their last {max_tokens} tokens"
        more = f"; both sides of {equal:,} pairs are equal then" if equal else ""
        progress.console.print(told + more, highlight=False)


def _last_loss(history: Sequence[dict[str, Any]]) -> float:
    losses = [row["loss"] for row in history if "loss" in row]
    tail = losses[-max(1, len(losses) // 10) :]
    return float(sum(tail) / len(tail))
