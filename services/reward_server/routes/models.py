"""`GET /v1/models`."""

from __future__ import annotations

from fastapi import APIRouter

from assay.schemas.models import ModelCard, ModelList
from reward_server.problems import describe
from reward_server.routes.dependencies import RuntimeDep

router = APIRouter(tags=["models"])
MODEL_ERRORS = describe(401, 403, 404, 409, 422, 429, 500)


@router.get("/v1/models", responses=MODEL_ERRORS)
async def list_models(runtime: RuntimeDep) -> ModelList:
    """The versions that this server can score with."""
    return ModelList(data=runtime.cards)


@router.get("/v1/models/{name}", responses=MODEL_ERRORS)
async def show_model(name: str, runtime: RuntimeDep) -> ModelCard:
    """One version, by `name@7`, or by `name` for the serving one."""
    return runtime.card(name)
