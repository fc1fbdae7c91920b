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


def bench(context: typer.Context) -> None:
    """Measure a server on this machine; `assay bench --help` lists what."""
    _become("reward_server.bench", context.args)


def _become(module: str, arguments: Sequence[str]) -> NoReturn:
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - our own module
