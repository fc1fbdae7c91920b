"""`POST /v1/strength`."""

from __future__ import annotations

from fastapi import APIRouter, Request

from assay.rewards.strength import strength as measure
from assay.schemas.scoring import PairStrength, StrengthRequest, StrengthResponse
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRoute, answering
from reward_server.routes.score import SCORING_ERRORS
from reward_server.scoring import Text

router = APIRouter(route_class=StrictJSONRoute, tags=["scoring"])


@router.post("/v1/strength", responses=SCORING_ERRORS, response_model_exclude_unset=True)
async def strength(
    body: StrengthRequest, request: Request, runtime: RuntimeDep
) -> StrengthResponse:
    """How strongly, and how surely, the ensemble prefers `chosen` over `rejected`.

    Of a composite, the served ensemble alone: its calibration knows nothing of the other parts.
    """
    texts = [
        Text(pair.prompt, getattr(pair, side), path=f"pairs[{index}].{side}")
        for index, pair in enumerate(body.pairs)
        for side in ("chosen", "rejected")
    ]
    with answering(runtime, request, body, (pair.prompt for pair in body.pairs)) as resident:
        scored = await resident.model_scoring.score(texts, body)
    differences = scored.scores[0::2] - scored.scores[1::2]
    calibration = resident.card.assay.calibration
    results = [
        PairStrength(
            **measure(row, calibration)._asdict(),
            members=len(row),
            **({"differences": row.tolist()} if body.members else {}),
        )
        for row in differences
    ]
    return StrengthResponse(model=resident.card.id, results=results)
