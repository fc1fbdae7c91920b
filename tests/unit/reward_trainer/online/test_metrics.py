"""Prometheus reads the trainer's metrics as long as it runs, and no longer."""

from __future__ import annotations

import socket

import httpx
import pytest
from prometheus_client import CollectorRegistry

from assay.errors import StartupError
from reward_trainer.online.metrics import TrainerMetrics, exposed
from serving import free_port


def test_metrics_are_there_until_the_end() -> None:
    metrics, port = TrainerMetrics(CollectorRegistry()), free_port()
    with exposed(metrics, "127.0.0.1", port):
        metrics.paused.set(1)
        assert "reward_trainer_paused 1.0" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    socket.create_server(("127.0.0.1", port)).close()


def test_a_taken_port_is_named() -> None:
    metrics = TrainerMetrics(CollectorRegistry())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            pytest.raises(StartupError, match=f"metrics_port, 127.0.0.1:{port}: .*in use"),
            exposed(metrics, "127.0.0.1", port),
        ):
            pass


def test_a_host_that_is_none_of_this_machine_is_named() -> None:
    metrics = TrainerMetrics(CollectorRegistry())
    with (
        pytest.raises(StartupError, match="no-such-host.invalid"),
        exposed(metrics, "no-such-host.invalid", 9100),
    ):
        pass
