"""`/v1/baselines` and `POST /v1/samples`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header

from assay.schemas.storage import (
    BaselineQuery,
    DeleteBaselinesResponse,
    LookupBaselinesResponse,
    PostSamplesRequest,
    PostSamplesResponse,
    PutBaselinesRequest,
    PutBaselinesResponse,
)
from reward_server.problems import describe
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRoute, refuse_pins

router = APIRouter(
    route_class=StrictJSONRoute, tags=["storage"], dependencies=[Depends(refuse_pins)]
)
STORAGE_ERRORS = describe(400, 401, 403, 404, 413, 422, 429, 500, 503)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="A retried request with the same key stores once and gets the same ids.",
    ),
]


@router.put("/v1/baselines", responses=STORAGE_ERRORS)
async def put_baselines(body: PutBaselinesRequest, runtime: RuntimeDep) -> PutBaselinesResponse:
    """Store baseline completions; each item replaces the set of its prompt and policy."""
    return PutBaselinesResponse(stored=await runtime.baselines.put(body.items))


@router.post("/v1/baselines/lookup", responses=STORAGE_ERRORS)
async def lookup_baselines(body: BaselineQuery, runtime: RuntimeDep) -> LookupBaselinesResponse:
    """The stored baselines of a prompt."""
    items = await runtime.baselines.lookup(body.prompt, body.policy)
    return LookupBaselinesResponse(items=items)


@router.post("/v1/baselines/delete", responses=STORAGE_ERRORS)
async def delete_baselines(body: BaselineQuery, runtime: RuntimeDep) -> DeleteBaselinesResponse:
    """Delete the stored baselines of a prompt."""
    return DeleteBaselinesResponse(deleted=await runtime.baselines.delete(body.prompt, body.policy))


@router.post("/v1/samples", status_code=202, responses=STORAGE_ERRORS)
async def post_samples(
    body: PostSamplesRequest, runtime: RuntimeDep, idempotency_key: IdempotencyKey = None
) -> PostSamplesResponse:
    """Hand completions of the current policy to the online trainer; all are stored, or none."""
    ids = await runtime.samples.append(body.items, idempotency_key)
    return PostSamplesResponse(accepted=len(ids), ids=ids)
