"""`assay train`: the online trainer's process, from its settings to its last checkpoint."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from assay.errors import AssayError, StartupError

if TYPE_CHECKING:
    from reward_trainer.online.metrics import TrainerMetrics
    from reward_trainer.online.settings import TrainerSettings

_REFUSED = 2
_FENCED = 3
_POLL_S = 1.0
NO_PREFERENCES = (
    "no preference pairs: set ASSAY_PREFERENCES (--preferences) to a file, a folder or a hub id, "
    "or run `assay demo`. The stream of samples is left alone"
)


def command(context: typer.Context) -> None:
    """Learn from samples of the policy, online; `assay train --help` lists the flags."""
    raise typer.Exit(main(context.args))


def main(argv: Sequence[str]) -> int:
    """Train until SIGTERM or Ctrl-C.

    Returns:
        0 after an orderly end, 2 with one line on stderr for what keeps it from training, 3 if
        another trainer has taken over.
    """
    from assay.registry.fence import FencedError

    try:
        return _run(read_settings(argv))
    except FencedError as error:
        return _refuse(error, _FENCED)
    except AssayError as error:
        return _refuse(error, _REFUSED)
    except KeyboardInterrupt:
        return 0


def _run(settings: TrainerSettings) -> int:
    from prometheus_client import CollectorRegistry

    from reward_trainer.online.metrics import TrainerMetrics, exposed

    metrics = TrainerMetrics(CollectorRegistry())
    with exposed(metrics, settings.metrics_host, settings.metrics_port):
        if settings.preferences is None:
            return _idle(settings, metrics)
        _prepare(settings)
        _train(settings, metrics)
    return 0


def read_settings(argv: Sequence[str]) -> TrainerSettings:
    """Settings from flags and environment.

    Raises:
        StartupError: one is wrong; no value is repeated.
    """
    from assay.settings import from_flags
    from reward_trainer.online.settings import TrainerSettings

    return from_flags(TrainerSettings, argv, "assay train")


def _idle(settings: TrainerSettings, metrics: TrainerMetrics) -> int:
    """Say what is missing, and be there for a demo until asked to end: nothing is wrong."""
    from reward_trainer.online.demo import as_demo, demo_pairs

    sys.stderr.write(f"assay train: {NO_PREFERENCES}\n")
    while True:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        while demo_pairs(settings.home) is None:
            time.sleep(_POLL_S)
        _prepare(settings)
        if _train(as_demo(settings), metrics, lambda: demo_pairs(settings.home) is not None):
            return 0


def _prepare(settings: TrainerSettings) -> None:
    if settings.redis_url is None:
        raise StartupError("no Redis: name one with --redis-url, or run `assay up`")
    from assay.observability.logging import configure_logging
    from reward_trainer.fit.progress import quieten_libraries

    os.nice(max(0, settings.nice - os.nice(0)))
    configure_logging(settings.log_level, "reward_trainer")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    quieten_libraries()


def _train(
    settings: TrainerSettings, metrics: TrainerMetrics, is_wanted: Callable[[], bool] = lambda: True
) -> bool:
    from reward_trainer.online.starting import train

    return asyncio.run(train(settings, metrics, is_wanted))


def _refuse(error: AssayError, code: int) -> int:
    sys.stderr.write(f"assay train: {error.detail}\n")
    return code
