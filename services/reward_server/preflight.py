"""What is checked before Ray starts, so that a mistake costs one line and a second."""

from __future__ import annotations

import asyncio
import os
import socket

from assay.errors import DependencyError, StartupError
from assay.schemas.refs import ModelRef
from assay.streams.baselines import BaselineStore
from assay.streams.connection import connect
from reward_server.composite.plan import check_companions, make_plan
from reward_server.composite.rule_process import RuleProcess
from reward_server.origin import Origin, find_origin
from reward_server.ports import check_port_free
from reward_server.settings import ServerSettings


def preflight(settings: ServerSettings) -> ModelRef:
    """Check port, store and model; returns the version that will serve.

    Raises:
        StartupError: what is wrong, and the setting that mends it.
        ModelLoadError: the model is missing or damaged.
    """
    if settings.address is None:
        check_port_free(settings.host, settings.port)
    else:
        _check_shareable(settings)
        _check_cluster(settings.address)
    _check_store(settings)
    try:
        origin = find_origin(settings)
        _check_components(settings, origin)
    except DependencyError as error:
        raise StartupError(f"the store {settings.store_url}: {error.detail}") from None
    if settings.reward == "contrastive":
        asyncio.run(_check_baselines(settings))
    return origin.ref


async def _check_baselines(settings: ServerSettings) -> None:
    """A server that could answer none of its requests is not started."""
    if settings.redis_url is None:
        raise StartupError("reward contrastive needs stored baselines: set ASSAY_REDIS_URL")
    redis = connect(settings.redis_url.get_secret_value())
    try:
        if await BaselineStore(redis).is_empty():
            raise StartupError(
                "reward contrastive needs stored baselines, and there are none: put them with "
                "ASSAY_REWARD=score (PUT /v1/baselines), or choose it later by ?reward=contrastive"
            )
    except DependencyError as error:
        raise StartupError(f"reward contrastive needs stored baselines: {error.detail}") from None
    finally:
        await redis.aclose()


def _check_components(settings: ServerSettings, origin: Origin) -> None:
    """Whether the composite can be: its models are there, and its rules load and work here."""
    plan = make_plan(settings, origin)
    if plan is None:
        return
    check_companions(plan, origin.store)
    if plan.rules:
        rules = RuleProcess(plan.rules)
        rules.start()
        rules.kill()


def _check_store(settings: ServerSettings) -> None:
    """A store's folder need not exist, since saving creates it, but it must be possible."""
    try:
        path = settings.store_path
    except ValueError as error:
        raise StartupError(str(error)) from None
    if path is None:
        return
    if path.exists():
        if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
            raise StartupError(f"the store {path} is not a folder that can be read: see --store")
    elif settings.store is not None and not path.parent.is_dir():
        raise StartupError(f"the store {path} cannot be: there is no folder {path.parent}")


def _check_cluster(address: str) -> None:
    """Knock at the head node: Ray itself would go on trying for many minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return  # `auto`: Ray looks on this machine, and tells at once
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise StartupError(f"no Ray cluster answers at {address}: {error}") from None


def _check_shareable(settings: ServerSettings) -> None:
    """Refuse what only one machine of a cluster could see, and a server open to all of them."""
    if not settings.keyring.keys:
        raise StartupError("a server on a Ray cluster can be reached from outside: set ASSAY_KEYS")
    if settings.store_path is not None and not settings.shared_store:
        raise StartupError(
            f"the store {settings.store_path} is a folder: say --shared-store if it is mounted on "
            "every node of the Ray cluster"
        )
    if settings.redis_url and settings.redis_url.get_secret_value().startswith("unix:"):
        raise StartupError(
            "redis_url is a socket of this machine: give a redis:// URL that every node reaches"
        )
