"""`POST /v1/score`, which `compat.clashes` puts on its path, and `POST /v1/best-of-n`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from fastapi import APIRouter, Request

from assay.rewards.aggregate import aggregate, or_none, spread
from assay.schemas.scoring import (
    BestOfN,
    BestOfNRequest,
    BestOfNResponse,
    Group,
    GroupScores,
    ScoreRequest,
    ScoreResponse,
)
from assay.schemas.text import Prompt
from reward_server.problems import describe
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRoute, TapDep, answering
from reward_server.scoring import Scored, Text

router = APIRouter(route_class=StrictJSONRoute, tags=["scoring"])
SCORING_ERRORS = describe(400, 401, 403, 404, 409, 413, 422, 429, 500, 503, 504)


async def score(
    body: ScoreRequest, request: Request, runtime: RuntimeDep, tapped: TapDep
) -> ScoreResponse:
    """How good is this completion, and how sure is the ensemble."""
    with answering(runtime, request, body, prompts_of(body.groups)) as resident:
        resident.check_aggregate(body)
        scored = await resident.scoring.score(group_texts(body.groups), body)
    calibrated = resident.card.assay.calibration is not None
    results = []
    for rows in group_rows(body.groups):
        values = scored.with_gaps[rows]
        results.append(
            GroupScores(
                scores=or_none(aggregate(values, body.aggregate, body.lcb_k)),
                std=or_none(spread(values)) if calibrated and values.shape[1] > 1 else None,
                **({"members": or_none(values)} if body.members else {}),
                **_components(scored, rows),
                **_tokens(scored, rows),
            )
        )
    tapped(body.groups, body)
    return ScoreResponse(
        model=resident.card.id,
        format=resident.scorer.format_used(raw=body.raw),
        results=results,
    )


@router.post("/v1/best-of-n", responses=SCORING_ERRORS)
async def best_of_n(
    body: BestOfNRequest, request: Request, runtime: RuntimeDep, tapped: TapDep
) -> BestOfNResponse:
    """Which completion of each group is best; one without a score never is."""
    with answering(runtime, request, body, prompts_of(body.groups)) as resident:
        resident.check_aggregate(body)
        scored = await resident.scoring.score(group_texts(body.groups), body)
    results = []
    for rows in group_rows(body.groups):
        values = aggregate(scored.with_gaps[rows], body.aggregate, body.lcb_k)
        index = None if np.isnan(values).all() else int(np.nanargmax(values))
        results.append(BestOfN(index=index, scores=or_none(values)))
    tapped(body.groups, body)
    return BestOfNResponse(model=resident.card.id, results=results)


def prompts_of(groups: Sequence[Group]) -> Iterator[Prompt]:
    """The prompt of each group."""
    return (group.prompt for group in groups)


def group_texts(groups: Sequence[Group]) -> list[Text]:
    """The texts of all groups in a row."""
    return [
        Text(
            group.prompt,
            completion,
            path=f"groups[{g}].completions[{c}]",
            finished=group.finished is None or group.finished[c],
            label=None if group.labels is None else group.labels[c],
        )
        for g, group in enumerate(groups)
        for c, completion in enumerate(group.completions)
    ]


def group_rows(groups: Sequence[Group]) -> list[slice]:
    """Where each group's completions stand in that row."""
    ends = list(accumulate(len(group.completions) for group in groups))
    starts = [0, *ends[:-1]]
    return [slice(start, end) for start, end in zip(starts, ends, strict=True)]


def _components(scored: Scored, rows: slice) -> dict[str, dict[str, list[float | None]]]:
    """What the parts of a composite add; none of them for a completion without a score."""
    if scored.components is None:
        return {}
    absent = False if scored.absent is None else scored.absent[rows]
    return {
        "components": {
            name: or_none(np.where(absent, np.nan, values[rows]))
            for name, values in scored.components.items()
        }
    }


def _tokens(scored: Scored, rows: slice) -> dict[str, list[int] | list[bool]]:
    texts = scored.encoded[rows]
    return {
        "tokens": [len(text) for text in texts],
        "truncated": [text.truncated for text in texts],
    }
