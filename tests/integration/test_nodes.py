"""Several nodes: two Ray nodes on this machine, started by deploy/ray, and a server that joins."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from reward_server.ports import PortBlock, claim_ports
from serving import LATE_S, free_port, score_body, started, until
from tiny_models import save_family

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SCRIPTS = Path(__file__).parents[2] / "deploy" / "ray"
KEY = {"Authorization": "Bearer key"}
SMALL = ("--block", "--num-cpus=1", "--object-store-memory=80000000", "--include-log-monitor=False")


def variables(ports: PortBlock, folder: Path) -> dict[str, str]:
    """What `environment.sh` gives a node, and ports that no other instance here has."""
    chosen = {
        "RAY_AUTH_TOKEN": "a-token-of-this-test-that-is-long-enough",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.replicas[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.replicas[0] + 50),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.metrics),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }
    done = subprocess.run(
        ["bash", "-c", ". ./environment.sh && env -0"],
        cwd=SCRIPTS,
        env={**os.environ, **chosen},  # noqa: TID251 - a child's
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = (line.split("=", 1) for line in done.stdout.split("\0") if line)
    return {name: value for name, value in pairs if name.startswith("RAY_")}


@contextlib.contextmanager
def node(name: str, *flags: str, folder: Path, **extra: str) -> Iterator[psutil.Process]:
    """A Ray node of one CPU, and nothing of it at the end."""
    log = folder / f"{name}.log"
    bin_folder = Path(sys.executable).parent
    path = f"{bin_folder}:{os.environ['PATH']}"  # noqa: TID251 - a child's
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(SCRIPTS / "start.sh"), *flags, *SMALL],
            cwd=folder,
            env={**os.environ, "PATH": path, **extra},  # noqa: TID251 - a child's
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def runs() -> bool:
        assert process.poll() is None, log.read_text()
        return "Ray runtime started" in log.read_text()

    try:
        until(runs, LATE_S, f"a Ray node; it said: {log.read_text()}")
        yield psutil.Process(process.pid)
    finally:
        descendants: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            descendants = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        for left in descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()


def replicas(of: psutil.Process) -> int:
    """Replicas that run on a node."""
    names = [" ".join(child.cmdline()) for child in of.children(recursive=True)]
    return sum(name.startswith("ray::ServeReplica") for name in names)


def who_answers(port: int) -> str:
    """The replica behind one request."""
    reply = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=KEY, timeout=LATE_S)
    (line,) = (line for line in reply.text.splitlines() if line.startswith("reward_server_replica"))
    return line


def wait_for_two(port: int) -> None:
    """Return when two replicas have answered on a port."""
    seen: set[str] = set()

    def both() -> bool:
        seen.add(who_answers(port))
        return len(seen) == 2

    until(both, LATE_S, f"two replicas behind {port}")


@dataclass(frozen=True)
class Cluster:
    """Two nodes; the second one's ingress has a port of its own, as they share a machine."""

    address: str
    worker_port: int
    nodes: tuple[psutil.Process, psutil.Process]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="assay-", ignore_cleanup_errors=True) as short,
        claim_ports() as ports,
    ):
        for name, value in variables(ports, Path(short)).items():
            monkeypatch.setenv(name, value)
        first = ports.replicas[0] + 60
        head = [f"--port={first}", f"--temp-dir={short}/ray"]
        head += [f"--ray-client-server-port={first + 4}"]
        other = {
            "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(first + 1),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(first + 2),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(first + 3),
        }
        address = f"127.0.0.1:{first}"
        with (
            node("head", "head", *head, folder=tmp_path) as one,
            node("other", address, folder=tmp_path, **other) as two,
        ):
            yield Cluster(address, first + 1, (one, two))


def test_replicas_on_two_nodes_answer_behind_each_of_them(cluster: Cluster, tmp_path: Path) -> None:
    model = save_family("bert", tmp_path / "tiny")
    argv = ["assay", "serve", "--address", cluster.address, "--shared-store", "--keys", "key"]
    argv += ["--replicas", "2", "--cpus-per-replica", "0.6", "--model", str(model)]
    with started([*argv, "--home", str(tmp_path)], free_port(), tmp_path) as server:
        server.wait_ready()
        assert [replicas(each) for each in cluster.nodes] == [1, 1]
        for port in (server.port, cluster.worker_port):
            wait_for_two(port)
            reply = httpx.post(
                f"http://127.0.0.1:{port}/v1/score",
                json=score_body(["good"]),
                headers=KEY,
                timeout=LATE_S,
            )
            assert reply.json()["model"] == "tiny@1"
        server.interrupt()
        assert server.process.wait(LATE_S) == 0
        assert "Traceback" not in server.output()
