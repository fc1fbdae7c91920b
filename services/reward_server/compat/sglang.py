"""SGLang's routes for rewards: `/classify`, `/v1/classify`, `/v1/embeddings`, `/v1/score`.

Scores are raw everywhere; SGLang's own `/v1/classify` puts them through a softmax, which makes 1.0
of any single score. An input over the limit loses its oldest tokens. A text without a score is
400, as no later try would have one.

`/classify`, `/v1/score` and `/v1/rerank` are shared with vLLM: see `clashes`.
"""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request

from reward_server.compat import core
from reward_server.compat.core import Input
from reward_server.compat.errors import describe
from reward_server.compat.numbers import LABEL, packed, rewards
from reward_server.compat.query import PARAMETERS
from reward_server.compat.sglang_bodies import (
    ClassifyBody,
    Embedding,
    EmbeddingBody,
    EmbeddingReply,
    MetaInfo,
    OpenAIBody,
    Ranked,
    ScoreBody,
    Scored,
    ScoreReply,
)
from reward_server.compat.vllm import best_first, rerank_inputs, score_all, usage
from reward_server.compat.vllm_bodies import Classification, ClassifyReply, RerankBody
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRoute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reward_server.compat.core import Answer
    from reward_server.runtime import Runtime

router = APIRouter(route_class=StrictJSONRoute, tags=["SGLang"])
ERRORS = describe("sglang_v1")


async def classify(body: ClassifyBody, request: Request, runtime: Runtime) -> Scored | list[Scored]:
    """`/classify`: how good is each text; one object for one, a list for a list."""
    name = "text" if body.text is not None else "input_ids"
    inputs = [
        _input(name if body.is_single else f"{name}[{i}]", value)
        for i, value in enumerate(body.inputs)
    ]
    answer, scores = await _score(inputs, body.model, request, runtime)
    replies = [
        Scored(embedding=[value], meta_info=_meta(answer, i, _id(body, i, request)))
        for i, value in enumerate(scores)
    ]
    return replies[0] if body.is_single else replies


@router.post("/v1/classify", responses=ERRORS, openapi_extra=PARAMETERS)
async def classify_v1(body: OpenAIBody, request: Request, runtime: RuntimeDep) -> ClassifyReply:
    """How good is each text."""
    answer, scores = await _score(_inputs(body), body.model, request, runtime)
    return ClassifyReply(
        id=f"classify-{_id(body, None, request)}",
        created=int(time.time()),
        model=answer.model,
        data=[Classification(index=i, label=LABEL, probs=[s]) for i, s in enumerate(scores)],
        usage=usage(answer),
    )


@router.post("/v1/embeddings", responses=ERRORS, openapi_extra=PARAMETERS)
async def embeddings(body: EmbeddingBody, request: Request, runtime: RuntimeDep) -> EmbeddingReply:
    """How good is each text: the score is the only number of its embedding."""
    answer, scores = await _score(_inputs(body), body.model, request, runtime)
    data: list[list[float] | str] = [[score] for score in scores]
    if body.encoding_format == "base64":
        data = [base64.b64encode(packed(score)).decode() for score in scores]
    return EmbeddingReply(
        data=[Embedding(index=i, embedding=value) for i, value in enumerate(data)],
        model=answer.model,
        usage=usage(answer),
    )


async def score(body: ScoreBody, request: Request, runtime: RuntimeDep) -> ScoreReply:
    """`/v1/score`: how good is each item as what follows the query."""
    inputs = [_pair(body, i) for i in range(len(body.items))]
    answer, scores = await _score(inputs, body.model, request, runtime)
    return ScoreReply(scores=[[value] for value in scores], model=answer.model, usage=usage(answer))


async def rerank(body: RerankBody, request: Request, runtime: Runtime) -> list[Ranked]:
    """`/v1/rerank`: which document is the best reply to the query: the best first."""
    answer, scores = await score_all(body, rerank_inputs(body), request, runtime)
    return [
        Ranked(
            score=scores[i],
            document=body.documents[i] if body.return_documents else None,
            index=i,
            meta_info=_meta(answer, i, f"{request.state.request_id}_{i}"),
        )
        for i in best_first(scores, body.top_n)
    ]


async def _score(
    inputs: Sequence[Input], model: str | None, request: Request, runtime: Runtime
) -> tuple[Answer, list[float]]:
    answer = await core.answer(runtime, request, inputs, model=model)
    return answer, rewards(answer, inputs)


def _inputs(body: OpenAIBody) -> list[Input]:
    return [_input(f"input[{i}]", value) for i, value in enumerate(body.input)]


def _input(path: str, value: str | tuple[int, ...]) -> Input:
    return Input(path, text=value) if isinstance(value, str) else Input(path, ids=value)


def _pair(body: ScoreBody, index: int) -> Input:
    first, second = body.query, body.items[index]
    if body.item_first:
        first, second = second, first
    path = f"items[{index}]"
    if isinstance(first, tuple) and isinstance(second, tuple):
        return Input(path, ids=first + second)
    assert isinstance(first, str)  # noqa: S101 - the body holds texts only, or ids only
    assert isinstance(second, str)  # noqa: S101
    return Input(path, prompt=first, completion=second)


def _meta(answer: Answer, index: int, identifier: str) -> MetaInfo:
    return MetaInfo(
        id=identifier,
        prompt_tokens=answer.outputs[index].tokens,
        weight_version=answer.model,
    )


def _id(body: ClassifyBody | OpenAIBody, index: int | None, request: Request) -> str:
    """The id of one input; without an index, of them all."""
    given = body.rid
    if isinstance(given, list):
        return given[index or 0] if given else str(request.state.request_id)
    identifier = given or str(request.state.request_id)
    single = index is None or (isinstance(body, ClassifyBody) and body.is_single)
    return identifier if single else f"{identifier}_{index}"
