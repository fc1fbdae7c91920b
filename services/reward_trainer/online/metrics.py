"""Every metric of the online trainer, declared on an injected registry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from assay.errors import StartupError
from reward_trainer.online.watch import KINDS

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class TrainerMetrics:
    """The metrics of one trainer.

    Args:
        registry: where they are declared.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.entries = Counter(
            "reward_trainer_entries_total",
            "Stream entries by what became of them: read, dead",
            ("outcome",),
            registry=registry,
        )
        self.update_seconds = Histogram(
            "reward_trainer_update_seconds", "One update", registry=registry, buckets=_SECONDS
        )
        self.versions = Counter(
            "reward_trainer_versions_total",
            "Versions by verdict: candidate, rejected",
            ("verdict",),
            registry=registry,
        )
        self.warnings = Counter(
            "reward_trainer_warnings_total", "Warnings by kind", ("kind",), registry=registry
        )
        for kind in KINDS:
            self.warnings.labels(kind)  # at 0: the first of a kind has to be an increase
        self.last = Gauge(
            "reward_trainer_last_update",
            "The last update: loss, separation, difference, spread, norms of gradients",
            ("value",),
            registry=registry,
        )
        self.drift = Gauge(
            "reward_trainer_drift",
            "Of a policy's samples: variance, disagreement, length_correlation",
            ("policy", "signal"),
            registry=registry,
        )
        self.paused = Gauge("reward_trainer_paused", "1 while training pauses", registry=registry)


@contextlib.contextmanager
def exposed(metrics: TrainerMetrics, host: str, port: int | None) -> Iterator[None]:
    """Let Prometheus read them until the block ends; not at all without a port.

    Raises:
        StartupError: the port or the host cannot be bound.
    """
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        raise StartupError(
            f"metrics_host and metrics_port, {host}:{port}: {error.strerror}"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
