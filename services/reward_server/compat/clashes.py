"""Paths that two systems share: the body says whose request it is.

| path | a body with | is of |
| --- | --- | --- |
| `/classify` | `text` or `input_ids` | SGLang |
| | anything else | vLLM |
| `/rerank` | `texts` | TEI |
| | anything else | vLLM |
| `/v1/score` | `groups` | Assay |
| | `query`, `items` | SGLang |
| | `queries`, `data_1`, `text_1` | vLLM |
| | anything else | Assay |
| `/v1/rerank` | | vLLM or SGLang, by the setting `rerank_reply` |

A key over its rate is 429 on `/v1/score` if the body is Assay's, and 503 if it is of another
system, at once: a request that waited there would hold up the switch to another version.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import Discriminator, Tag

from reward_server.compat import sglang, tei, vllm
from reward_server.compat import sglang_bodies as sglang_wire
from reward_server.compat import tei_bodies as tei_wire
from reward_server.compat import vllm_bodies as vllm_wire
from reward_server.compat.errors import Dialect
from reward_server.compat.query import PARAMETERS
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRequest, StrictJSONRoute
from reward_server.routes.score import SCORING_ERRORS
from reward_server.routes.score import score as native_score

router = APIRouter(route_class=StrictJSONRoute)


def classify_dialect(body: object) -> Dialect:
    """Whose `/classify` a body is."""
    return "sglang" if _has(body, "text", "input_ids") else "vllm"


def rerank_dialect(body: object) -> Dialect:
    """Whose `/rerank` a body is."""
    return "tei" if _has(body, "texts") else "vllm"


def score_dialect(body: object) -> Dialect | None:
    """Whose `/v1/score` a body is; None = Assay's own."""
    if _has(body, "groups"):
        return None
    if _has(body, "queries", "data_1", "text_1"):
        return "vllm"
    return "sglang_v1" if _has(body, "query", "items") else None


def _has(body: object, *names: str) -> bool:
    return isinstance(body, dict) and any(name in body for name in names)


def _noted(dialect_of: Callable[[object], Dialect]) -> Any:
    """A dependency that notes a body's dialect, so that errors take its shape."""

    async def note(request: Request) -> None:
        request.state.dialect = dialect_of(await _parsed(request))

    return Depends(note)


async def _parsed(request: Request) -> object:
    try:
        return await request.json()
    except HTTPException:  # no JSON: whoever reads the body next says so
        return None


ClassifyBody: TypeAlias = Annotated[
    Annotated[sglang_wire.ClassifyBody, Tag("<sglang>")]
    | Annotated[vllm_wire.TextBody, Tag("<text>")]
    | Annotated[vllm_wire.ChatBody, Tag("<chat>")],
    Discriminator(
        lambda body: (
            "<sglang>" if classify_dialect(body) == "sglang" else vllm_wire.text_or_chat(body)
        )
    ),
]
RerankBody: TypeAlias = Annotated[
    Annotated[tei_wire.RerankBody, Tag("<tei>")] | Annotated[vllm_wire.RerankBody, Tag("<vllm>")],
    Discriminator(lambda body: f"<{rerank_dialect(body)}>"),
]


@router.put("/classify", include_in_schema=False, dependencies=[_noted(classify_dialect)])
@router.post(
    "/classify",
    responses=vllm.ERRORS,
    dependencies=[_noted(classify_dialect)],
    openapi_extra=PARAMETERS,
    tags=["vLLM", "SGLang"],
)
async def classify(
    body: ClassifyBody, request: Request, runtime: RuntimeDep
) -> vllm_wire.ClassifyReply | sglang_wire.Scored | list[sglang_wire.Scored]:
    """How good is each text, or a conversation's last turn."""
    if isinstance(body, sglang_wire.ClassifyBody):
        return await sglang.classify(body, request, runtime)
    return await vllm.classify(body, request, runtime)


@router.post(
    "/rerank",
    responses={**tei.ERRORS, **vllm.ERRORS},
    dependencies=[_noted(rerank_dialect)],
    openapi_extra=PARAMETERS,
    tags=["vLLM", "TEI"],
)
async def rerank(
    body: RerankBody, request: Request, response: Response, runtime: RuntimeDep
) -> vllm_wire.RerankReply | list[tei_wire.Rank]:
    """Which completion is the best for the prompt: the best first."""
    if isinstance(body, tei_wire.RerankBody):
        return await tei.rerank(body, request, response, runtime)
    return await vllm.rerank(body, request, runtime)


async def _note_setting(request: Request, runtime: RuntimeDep) -> None:
    is_sglang = runtime.settings.rerank_reply == "sglang"
    request.state.dialect = "sglang_v1" if is_sglang else "vllm"


@router.put("/v1/rerank", include_in_schema=False, dependencies=[Depends(_note_setting)])
@router.post(
    "/v1/rerank",
    responses=vllm.ERRORS,
    dependencies=[Depends(_note_setting)],
    openapi_extra=PARAMETERS,
    tags=["vLLM", "SGLang"],
)
async def rerank_v1(
    body: vllm_wire.RerankBody, request: Request, runtime: RuntimeDep
) -> vllm_wire.RerankReply | list[sglang_wire.Ranked]:
    """Which document is the best reply to the query: the best first."""
    if runtime.settings.rerank_reply == "sglang":
        return await sglang.rerank(body, request, runtime)
    return await vllm.rerank(body, request, runtime)


class _ScoreRoute(StrictJSONRoute):
    """The native `/v1/score`; a body of another system goes to that system's handler."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        native = super().get_route_handler()
        others = {
            dialect: StrictJSONRoute(self.path, endpoint).get_route_handler()
            for dialect, endpoint in (("vllm", vllm.score), ("sglang_v1", sglang.score))
        }

        async def by_body(request: Request) -> Response:
            strict = StrictJSONRequest(request.scope, request.receive)
            strict.state.dialect = dialect = score_dialect(await _parsed(strict))
            if strict.state.over_rate:
                raise strict.state.over_rate
            return await (native if dialect is None else others[dialect])(strict)

        return by_body


router.add_api_route(
    "/v1/score",
    native_score,
    methods=["POST"],
    tags=["scoring"],
    responses=SCORING_ERRORS,
    response_model_exclude_unset=True,
    route_class_override=_ScoreRoute,
)
