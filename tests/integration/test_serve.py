"""The server under Ray Serve: side by side with another, losing a replica, ending under load."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serving import LATE_S, Sent, Server, free_port, post, score_body, started, until
from tiny_models import save_family

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

CALLERS = 8


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        name: save_family("bert", folder / name, seed)
        for seed, name in enumerate(("first", "second"))
    }


@pytest.fixture(scope="module")
def servers(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    """Two instances, started at the same moment: the first with two replicas. The last test ends
    the second."""
    folder = tmp_path_factory.mktemp("servers")
    first = ["reward_server", "--model", str(models["first"]), "--replicas", "2"]
    second = ["reward_server", "--model", str(models["second"]), "--drain-s", "60"]
    with started(first, free_port(), folder) as one, started(second, free_port(), folder) as two:
        one.wait_ready()
        two.wait_ready()
        yield one, two


def test_two_instances_run_on_one_machine(servers: tuple[Server, Server]) -> None:
    for server, model in zip(servers, ("first@1", "second@1"), strict=True):
        for _ in range(10):
            reply = httpx.post(
                f"{server.url}/v1/score", json=score_body(["good", "bad"]), timeout=LATE_S
            )
            assert (reply.status_code, reply.json()["model"]) == (200, model)


def test_ports_of_ray_and_replicas_are_on_loopback(servers: tuple[Server, Server]) -> None:
    """All but HAProxy's two, and Serve's own between replicas, which asks for Ray's token."""
    for server in servers:
        open_ports = {
            process.name(): connection.laddr.port
            for process in server.descendants()
            for connection in _connections(process)
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
        }
        assert {name.split(":")[0] for name in open_ports} <= {"haproxy", "ray"}
        assert not any(name.startswith(("raylet", "gcs")) for name in open_ports)


def _connections(process: psutil.Process) -> list[Any]:
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
        return list(process.net_connections("tcp"))
    return []


def test_large_body_passes_the_ingress(servers: tuple[Server, Server]) -> None:
    reply = httpx.post(
        f"{servers[0].url}/v1/score",
        json=score_body(["short"], prompt="x " * 2**19),
        timeout=LATE_S,
    )
    assert reply.status_code == 200
    assert reply.json()["results"][0]["truncated"] == [True]


def test_killed_replica_fails_only_its_own_requests_and_is_replaced(
    servers: tuple[Server, Server],
) -> None:
    server = servers[0]
    before = server.replicas()
    assert len(before) == 2
    sent: list[Sent] = []
    stop = threading.Event()

    def call(caller: int) -> None:
        with httpx.Client(base_url=server.url, timeout=LATE_S) as client:
            number = 0
            while not stop.is_set():
                number += 1
                texts = [f"{caller} {number} {index} " + "x" * 60 for index in range(20)]
                sent.append(post(client, texts))

    with ThreadPoolExecutor(CALLERS) as pool:
        for caller in range(CALLERS):
            pool.submit(call, caller)
        until(lambda: len(sent) > 5 * CALLERS, LATE_S, "requests under way")
        victim = min(before)
        at_kill = len(sent)
        psutil.Process(victim).kill()
        try:
            until(lambda: len(server.replicas() - {victim}) == 2, LATE_S, "a new replica")
            until(lambda: len(_replica_ids(server)) == 2, LATE_S, "requests to both replicas")
            at_end = len(sent)
            until(lambda: len(sent) > at_end + CALLERS, LATE_S, "answers of both")
        finally:
            stop.set()
    failed = [number for number, each in enumerate(sent) if each.status != 200]
    assert len(failed) <= CALLERS
    assert all(at_kill <= number < at_end for number in failed)


def _replica_ids(server: Server) -> set[str]:
    asked = [httpx.get(f"{server.url}/healthz", timeout=LATE_S) for _ in range(10)]
    return {reply.json()["replica"] for reply in asked}


def test_only_replica_killed_comes_back(servers: tuple[Server, Server]) -> None:
    server = servers[1]
    (victim,) = server.replicas()
    psutil.Process(victim).kill()

    with httpx.Client(base_url=server.url, timeout=LATE_S) as client:
        until(lambda: post(client, ["again"]).status == 200, LATE_S, "an answer of the new replica")
    assert server.replicas().isdisjoint({victim})


def test_sigterm_under_load_loses_no_accepted_request(servers: tuple[Server, Server]) -> None:
    server = servers[1]
    descendants = server.descendants()
    sent: list[Sent] = []

    def call(caller: int) -> None:
        with httpx.Client(base_url=server.url, timeout=LATE_S) as client:
            for number in count():
                texts = [f"{caller} {number} {index} " + "x" * 200 for index in range(40)]
                reply = post(client, texts)
                sent.append(reply)
                if reply.status != 200:
                    return

    with ThreadPoolExecutor(CALLERS) as pool:
        for caller in range(CALLERS):
            pool.submit(call, caller)
        until(lambda: len(sent) > 2 * CALLERS, LATE_S, "requests under way")
        server.interrupt(signal.SIGTERM)
        signalled_s = time.monotonic()
        until(lambda: _readiness(server) in (503, 0), LATE_S, "/readyz to answer 503")
    assert server.process.wait(LATE_S) == 0, server.output()

    # Every caller got its answers, and was then refused: at the door, which loses nothing, or
    # by a closed port. A request may leave its caller before the signal and come after it.
    crossing = [each for each in sent if each.status == 200 and each.sent_s < signalled_s]
    assert len(crossing) > 2 * CALLERS
    refused = [each for each in sent if each.status != 200]
    assert len(refused) == CALLERS
    assert {each.status for each in refused} <= {503, 0}
    for each in refused:
        if each.headers is None:
            assert each.sent_s > signalled_s
            continue
        assert each.headers["content-type"] == "application/problem+json"
        assert int(each.headers["retry-after"]) >= 1
        assert each.json["status"] == 503
        assert "draining" in each.json["detail"]
    server.check_gone(descendants)


def _readiness(server: Server) -> int:
    try:
        return httpx.get(f"{server.url}/readyz", timeout=LATE_S).status_code
    except httpx.TransportError:
        return 0
