"""Puts the trainer's parts together and runs it until a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import torch

from assay.errors import StartupError
from assay.registry.promotions import Registry
from assay.streams.connection import connect
from reward_trainer.gate.probe import Probe
from reward_trainer.online.metrics import TrainerMetrics
from reward_trainer.online.preferences import read_stored
from reward_trainer.online.reports import Reports
from reward_trainer.online.service import Trainer
from reward_trainer.online.settings import TrainerSettings
from reward_trainer.online.versions import Versions


async def train(
    settings: TrainerSettings, metrics: TrainerMetrics, is_wanted: Callable[[], bool] = lambda: True
) -> bool:
    """Run the trainer until SIGTERM or SIGINT.

    Args:
        settings: with Redis and preferences.
        metrics: what it counts in.
        is_wanted: it also ends when this says no.

    Returns:
        Whether it is still wanted: a signal has ended it.

    Raises:
        AssayError: what keeps it from training, or has ended it.
    """
    torch.set_num_threads(settings.torch_threads or max(1, (os.cpu_count() or 2) // 2))
    if settings.redis_url is None or settings.preferences is None:
        raise StartupError("the trainer needs Redis and preferences")
    store = settings.open_store()
    versions = Versions(settings.model, store, settings.device)
    stored = read_stored(settings, settings.preferences, Probe(store, versions.name))
    redis = connect(settings.redis_url.get_secret_value())
    try:
        registry = Registry(redis, versions.name)
        reports = Reports(settings.folder / versions.name, registry, metrics)
        trainer = Trainer(settings, redis, versions, stored, reports, is_wanted)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, trainer.stop)
        await trainer.run()
        return is_wanted()
    finally:
        await redis.aclose()
