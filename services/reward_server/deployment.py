"""The Ray Serve deployment. No other module imports Ray Serve."""

from __future__ import annotations

import contextlib
import io
import logging
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.serve.config import AutoscalingConfig
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from assay.errors import StartupError
from reward_server.preflight import preflight
from reward_server.settings import ServerSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

APPLICATION = "assay"
_REPLICA_LOG = LoggingConfig(log_level="WARNING", enable_access_log=False)
_QUIET = LoggingConfig(log_level="CRITICAL", enable_access_log=False)  # errors come back to us
_NO_LIMIT = 1_000_000  # the batcher's bounded queue is the one that refuses work


def start(settings: ServerSettings) -> DeploymentHandle[Any]:
    """Start the ingress and the replicas; returns when every replica is warm.

    Raises:
        StartupError: a replica did not come up; the reason is the replica's own.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location="EveryNode" if settings.address else "HeadOnly",
        http_options={"host": settings.host, "port": settings.port},
        logging_config=_QUIET,
    )
    try:
        return serve.run(
            _application(settings), name=APPLICATION, route_prefix="/", logging_config=_REPLICA_LOG
        )
    except RuntimeError as error:
        raise StartupError(f"no replica came up: {_failure() or error}") from error


def application(_arguments: dict[str, str]) -> serve.Application:
    """What a Serve config names as `import_path`: for clusters that KubeRay runs.

    The settings come from the environment of the Ray nodes; what `assay serve --address` checks
    first is checked here as well.

    Raises:
        StartupError: a setting, the store or the model is wrong; Serve shows it as the status.
        ModelLoadError: the model is missing or damaged.
    """
    settings = ServerSettings(address="auto")
    preflight(settings)
    return _application(settings)


def drain(handle: DeploymentHandle[Any], timeout_s: float) -> int:
    """Have every replica refuse new work and finish what it accepted; returns what is left."""
    try:
        return sum(handle.broadcast("drain", timeout_s).results(timeout_s=timeout_s + 5))
    except DeploymentUnavailableError:
        return 0


def stop() -> None:
    """End ingress and replicas at once; other applications of a shared cluster stay.

    Alone it does not delete the application first: HAProxy would answer 404, which a client does
    not try again, while a refused connection is tried again.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # Ray calls its controller's end an error there
        if serve.status().applications.keys() - {APPLICATION}:
            serve.delete(APPLICATION)
        else:
            serve.shutdown()  # type: ignore[no-untyped-call]


def _application(settings: ServerSettings) -> serve.Application:
    def build() -> FastAPI:
        from assay.observability.logging import configure_logging
        from reward_server.app import create_app
        from reward_server.engine.load import load_parts, load_scorer

        configure_logging(settings.log_level, "reward_server")
        return create_app(settings, *load_scorer(settings), load_parts(settings))

    class RewardReplica:
        app: FastAPI  # made by `build`, set by `serve.ingress`

        async def drain(self, timeout_s: float) -> int:
            left: int = await self.app.state.runtime.drain(timeout_s)
            return left

    deploy = serve.deployment(
        num_replicas=None if settings.max_replicas else settings.replicas,
        autoscaling_config=_autoscaling(settings),
        max_ongoing_requests=_NO_LIMIT,
        max_constructor_retry_count=1,
        graceful_shutdown_timeout_s=settings.drain_s + 5,
        ray_actor_options={
            "num_cpus": settings.cpus_per_replica,
            "num_gpus": settings.gpus_per_replica,
        },
    )
    return deploy(serve.ingress(build)(RewardReplica)).bind()


def _autoscaling(settings: ServerSettings) -> AutoscalingConfig | None:
    if settings.max_replicas is None:
        return None
    return AutoscalingConfig(
        min_replicas=settings.replicas,
        max_replicas=settings.max_replicas,
        target_ongoing_requests=settings.target_requests,
    )


def _failure() -> str:
    """Last line of what a failed replica said."""
    application = serve.status().applications.get(APPLICATION)
    replicas = application.deployments.values() if application else ()
    lines = [line for each in replicas for line in each.message.splitlines() if line.strip()]
    return lines[-1] if lines else ""
