"""Commands that live in a service: this process becomes the service's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer


def fit(context: typer.Context) -> None:
    """Train a reward model; `assay fit --help` lists the flags."""
    _become("reward_trainer", ["fit", *context.args])


def train(context: typer.Context) -> None:
    """Learn from the policy's samples, online; `assay train --help` lists the flags."""
    _become("reward_trainer", ["train", *context.args])


def demo(context: typer.Context) -> None:
    """Show the trainer at work beside `assay up --promote auto`; `assay demo --help`."""
    _become("reward_trainer", ["demo", *context.args])


def strength(context: typer.Context) -> None:
    """Measure how surely an ensemble agrees with each label; `assay strength --help`."""
    _become("reward_trainer", ["strength", *context.args])


def denoise(context: typer.Context) -> None:
    """Flip, smooth, drop or give margins to doubtful pairs; `assay denoise --help`."""
    _become("reward_trainer", ["denoise", *context.args])


def evaluate(context: typer.Context) -> None:
    """Measure how well reward models rank pairs; `assay evaluate --help`."""
    _become("reward_trainer", ["evaluate", *context.args])


def probe(context: typer.Context) -> None:
    """Label recent samples for the trainer's gate; `assay probe --help`."""
    _become("reward_trainer", ["probe", *context.args])


def ppo(context: typer.Context) -> None:
    """Train a policy against a running server; `assay ppo --help`, `assay ppo report RUN`."""
    _become("ppo_worker", context.args)


def bench(context: typer.Context) -> None:
    """Measure a server on this machine; `assay bench --help` lists what."""
    _become("reward_server.bench", context.args)


def _become(module: str, arguments: Sequence[str]) -> NoReturn:
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - our own module
