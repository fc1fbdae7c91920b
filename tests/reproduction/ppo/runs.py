"""A policy trained by a proxy behind a real server, then read by gold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from assay.errors import DataError
from ppo_worker.metrics import EVALUATIONS, Evaluation, read_rows
from reproduction.cells import Optimised
from reproduction.ppo.gold import Gold
from reproduction.ppo.scales import Scale, Spec


def train_policy(scale: Scale, spec: Spec, url: str, run: Path, threads: int) -> None:
    """Run `assay ppo --demo`; what a stopped run has left is gone on with.

    Raises:
        DataError: the command failed.
    """
    flags = {
        **scale.ppo,
        "reward": spec.mode,
        "seed": spec.seed,
        "policy-name": f"seed{spec.seed}",  # its baselines, which the modes share
        "url": url,
        "run": run,
        "torch-threads": threads,
    }
    argv = ["assay", "ppo", "--demo", "--no-post-samples"]
    argv += [f"--{name}={value}" for name, value in flags.items()]
    run.parent.mkdir(parents=True, exist_ok=True)
    log = run.with_suffix(".log")
    with log.open("ab") as output:
        done = subprocess.run([sys.executable, "-m", *argv], stdout=output, stderr=output)
    if done.returncode:
        raise DataError(f"{spec.name}: assay ppo ended with {done.returncode}, see {log}")


def read_by_gold(run: Path, gold: Gold) -> Optimised:
    """What gold says of every measurement of a run on held-out prompts."""
    rows = read_rows(run / EVALUATIONS, Evaluation)
    base = gold.scores(rows[0].prompts, rows[0].completions)
    return Optimised(
        prompts=[str(prompt) for prompt in rows[0].prompts],
        steps=[row.step for row in rows],
        kl=[row.kl for row in rows],
        length=[row.length / row.base_length for row in rows],
        proxy=[(row.score - row.base_score) / row.base_std for row in rows],
        gold=[_means(gold.scores(row.prompts, row.completions)) for row in rows],
        gold_std=float(np.nanstd(np.concatenate(base))),
    )


def _means(groups: list[np.ndarray]) -> list[float]:
    return [float(np.nanmean(group)) for group in groups]
