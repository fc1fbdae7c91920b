"""Promote, rollback, and how a promotion goes; scope `admin`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from assay.errors import ConflictError, InvalidInputError
from assay.schemas.promotions import PromotionReply, SwapWhen
from assay.schemas.refs import ModelRef, parse_pin
from reward_server.problems import describe
from reward_server.routes.dependencies import RuntimeDep

if TYPE_CHECKING:
    from assay.registry.records import Promotion

router = APIRouter(tags=["models"])
_ERRORS = describe(401, 403, 404, 409, 422, 429, 500, 503)
_MOVES = {202: {"description": "Under way", "model": PromotionReply}, **_ERRORS}

WaitS = Annotated[
    float, Query(ge=0, le=300, description="How long to wait for the end, in seconds.")
]
When = Annotated[
    SwapWhen | None, Query(description="None = the server's setting; `now` may split groups.")
]
Force = Annotated[bool, Query(description="True = also a version that the gate has rejected.")]


@router.post("/v1/models/{name}/promote", responses=_MOVES)
async def promote(
    name: str,
    runtime: RuntimeDep,
    response: Response,
    wait_s: WaitS = 0,
    swap_when: When = None,
    force: Force = False,
) -> PromotionReply:
    """Let `name@7` serve, on every replica: 200 once it does, 202 before."""
    pin = parse_pin(name)
    if pin.version is None:
        raise InvalidInputError(f"name the version to promote: {pin.name}@7, say")
    runtime.check_name(pin.name)
    promotion = await runtime.follower.propose("promote", pin.version, swap_when, force=force)
    return await _outcome(runtime, promotion, wait_s, response)


@router.post("/v1/models/{name}/rollback", responses=_MOVES)
async def rollback(
    name: str, runtime: RuntimeDep, response: Response, wait_s: WaitS = 0, swap_when: When = None
) -> PromotionReply:
    """Let the previous version serve again: 200 once it does, 202 before."""
    pin = parse_pin(name)
    if pin.version is not None:
        raise InvalidInputError(f"a rollback goes to the previous version: name {pin.name} alone")
    runtime.check_name(pin.name)
    promotion = await runtime.follower.propose("rollback", None, swap_when)
    return await _outcome(runtime, promotion, wait_s, response)


@router.get("/v1/promotions/{identifier}", responses=_ERRORS)
async def show_promotion(identifier: str, runtime: RuntimeDep) -> PromotionReply:
    """How a promotion goes, or went in the last day."""
    return _reply(await runtime.follower.promotion(identifier))


async def _outcome(
    runtime: RuntimeDep, promotion: Promotion, wait_s: float, response: Response
) -> PromotionReply:
    promotion = await runtime.follower.outcome(promotion, wait_s)
    if promotion.state == "refused":
        raise ConflictError(f"promotion {promotion.id} was refused: {promotion.reason}")
    response.status_code = 200 if promotion.state == "done" else 202
    return _reply(promotion)


def _reply(promotion: Promotion) -> PromotionReply:
    return PromotionReply(
        id=promotion.id,
        model=str(ModelRef(promotion.name, promotion.version)),
        kind=promotion.kind,
        by=promotion.by,
        swap_when=promotion.swap_when,
        state=promotion.state,
        reason=promotion.reason,
        epoch=promotion.epoch,
        created=promotion.created_s,
        replicas=promotion.members,
    )
