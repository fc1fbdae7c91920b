"""`POST /v1/contrastive`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from assay.errors import FieldError, InvalidInputError
from assay.rewards.aggregate import Values, check_aggregate
from assay.schemas.scoring import (
    BaselineSource,
    ContrastiveGroup,
    ContrastiveRequest,
    ContrastiveResponse,
    GroupRewards,
)
from reward_server.contrast import find_stored, group_rewards
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRoute, TapDep, answering
from reward_server.routes.score import SCORING_ERRORS, group_rows, group_texts, prompts_of
from reward_server.scoring import Text

if TYPE_CHECKING:
    from assay.schemas.text import Completion
    from reward_server.runtime import Runtime

router = APIRouter(route_class=StrictJSONRoute, tags=["scoring"])

Baselines = tuple[BaselineSource, Sequence["Completion"]]


@router.post("/v1/contrastive", responses=SCORING_ERRORS, response_model_exclude_unset=True)
async def contrastive(
    body: ContrastiveRequest, request: Request, runtime: RuntimeDep, tapped: TapDep
) -> ContrastiveResponse:
    """How much better than the baseline is this completion."""
    with answering(runtime, request, body, prompts_of(body.groups)) as resident:
        # Each member subtracts its own baseline, so offsets cancel: no calibration is needed.
        check_aggregate(body.aggregate, resident.card.assay.members, calibrated=True)
        baselines = await _find_baselines(body, runtime)
        texts = group_texts(body.groups) + _baseline_texts(body.groups, baselines)
        scored = await resident.scoring.score(texts, body)
    # Off the event loop: each completion is compared with each baseline.
    results = await asyncio.to_thread(_all_rewards, body, scored.with_gaps, baselines)
    tapped(body.groups, body)
    return ContrastiveResponse(model=resident.card.id, results=results)


def _all_rewards(
    body: ContrastiveRequest, scores: Values, baselines: Sequence[Baselines]
) -> list[GroupRewards]:
    position = sum(len(group.completions) for group in body.groups)
    results = []
    for rows, (source, completions) in zip(group_rows(body.groups), baselines, strict=True):
        own = scores[position : position + len(completions)]
        position += len(completions)
        results.append(group_rewards(body, scores[rows], source, own))
    return results


async def _find_baselines(body: ContrastiveRequest, runtime: Runtime) -> list[Baselines]:
    """The baselines of each group: inline, else stored, else what `missing` says."""
    stored = await _stored(body, runtime)
    found: list[Baselines] = []
    missing: list[FieldError] = []
    for index, group in enumerate(body.groups):
        if group.baselines is not None:
            found.append(("inline", group.baselines))
        elif stored.get(index):
            found.append(("stored", stored[index]))
        else:
            found.append(("leave_one_out", ()))
            fault = _no_baseline(body, index, group)
            missing += [fault] if fault else []
    if missing:
        raise InvalidInputError(
            f"{len(missing)} of {len(body.groups)} groups have no baseline", fields=tuple(missing)
        )
    return found


def _no_baseline(
    body: ContrastiveRequest, index: int, group: ContrastiveGroup
) -> FieldError | None:
    if body.missing == "error":
        whose = f" of policy {body.policy}" if body.policy else ""
        return FieldError(f"groups[{index}].prompt", f"no baseline{whose} is stored for it")
    if len(group.completions) < 2:
        return FieldError(f"groups[{index}].completions", "leave_one_out needs two or more")
    return None


async def _stored(body: ContrastiveRequest, runtime: Runtime) -> dict[int, list[Completion]]:
    wanted = [index for index, group in enumerate(body.groups) if group.baselines is None]
    if not wanted or (body.missing == "leave_one_out" and not runtime.stores):
        return {}
    places = [(f"groups[{index}]", body.groups[index].prompt) for index in wanted]
    found = await find_stored(runtime, places, body.policy)
    return dict(zip(wanted, found, strict=True))


def _baseline_texts(
    groups: Sequence[ContrastiveGroup], baselines: Sequence[Baselines]
) -> list[Text]:
    return [
        Text(
            group.prompt,
            completion,
            path=f"groups[{g}].baselines[{b}]",
            label=_shared_label(group),
        )
        for g, (group, (_, completions)) in enumerate(zip(groups, baselines, strict=True))
        for b, completion in enumerate(completions)
    ]


def _shared_label(group: ContrastiveGroup) -> Any:
    """The label of a group's baselines: that of its completions, if it is the prompt's own."""
    labels = group.labels or [None]
    return labels[0] if all(label == labels[0] for label in labels) else None
