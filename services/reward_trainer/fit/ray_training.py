"""`--ray-workers N`: the same training inside Ray Train's workers."""

from __future__ import annotations

from typing import Any

import torch

from assay.errors import AssayError, ScoringError, StartupError
from reward_trainer.fit.progress import bars, quieten_libraries
from reward_trainer.fit.training import Job, is_first_process, train_members


def train_on_ray(job: Job, workers: int) -> None:
    """Train every member of a job in a group of Ray workers, one process each.

    Ray sets up the process group, which the Trainer then finds as it finds torchrun's.

    Args:
        job: its folder must be on a disk that all workers share.
        workers: processes; each takes a GPU, unless the job is for the CPU or there is none.

    Raises:
        AssayError: see `train_members`.
        ScoringError: a worker died.
        StartupError: Ray is not installed.
    """
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise StartupError(
            f"--ray-workers needs Ray Train ({error}): pip install 'ray[train]'"
        ) from error
    started = not ray.is_initialized()
    use_gpu = job.device != "cpu" and torch.cuda.is_available()
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(name="ray", storage_path=str(job.folder.absolute())),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise _cause(error) from error
    finally:
        if started:
            ray.shutdown()


def _worker(config: dict[str, Any]) -> None:
    job = config["job"]
    quieten_libraries()
    with bars(is_first_process(job)) as progress:
        train_members(job, progress)


def _cause(error: BaseException) -> AssayError:
    """The error of ours that a worker raised, or one that says what Ray says."""
    failures = getattr(error, "worker_failures", None) or {}
    for found in (error, error.__cause__, *failures.values()):
        for candidate in (found, getattr(found, "cause", None), getattr(found, "__cause__", None)):
            if isinstance(candidate, AssayError):
                return candidate
    return ScoringError(f"a Ray worker failed: {error}")
