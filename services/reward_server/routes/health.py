"""`/healthz`, `/readyz`, `/metrics`, and `/health` and `/ping` of other systems."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from reward_server.problems import describe
from reward_server.routes.dependencies import RuntimeDep

router = APIRouter(tags=["operation"])


class Status(BaseModel):
    """State of the replica that answers."""

    status: Literal["alive", "ready"]
    replica: str


@router.get("/healthz", responses=describe(500))
async def healthz(runtime: RuntimeDep) -> Status:
    """Alive: the process answers."""
    return Status(status="alive", replica=runtime.replica)


@router.get("/readyz", responses=describe(500, 503))
async def readyz(runtime: RuntimeDep) -> Status:
    """Ready: the model is loaded and warm, and new work is taken."""
    runtime.check_ready()
    return Status(status="ready", replica=runtime.replica)


@router.get("/ping", response_class=Response, responses=describe(401, 429, 500, 503))
@router.get("/health", response_class=Response, responses=describe(401, 429, 500, 503))
async def health(runtime: RuntimeDep) -> Response:
    """What `/readyz` says, as clients of other systems ask for it; no body."""
    runtime.check_ready()
    return Response()


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text format", "content": {"text/plain": {}}},
        **describe(401, 429, 500),
    },
)
async def metrics(runtime: RuntimeDep) -> Response:
    """Prometheus metrics of the replica that answers, which `reward_server_replica_info` names."""
    return Response(generate_latest(runtime.metrics.registry), media_type=CONTENT_TYPE_LATEST)
