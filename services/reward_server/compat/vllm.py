"""vLLM's routes for rewards: `/classify`, `/pooling`, `/score` and `/rerank`.

Scores are raw unless a body says `"use_activation": true`, which is a sigmoid; vLLM itself reads
null like true. An input over the limit loses its oldest tokens, or its last ones if
`truncation_side` is `right`; vLLM itself refuses it if `truncate_prompt_tokens` is null, and a 400
ends the training of its clients. A text without a score is 400, as no later try would have one.

`/classify`, `/v1/score` and the paths of `/rerank` are shared with others: see `clashes`.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from reward_server.compat import core
from reward_server.compat.core import Input
from reward_server.compat.errors import describe
from reward_server.compat.numbers import LABEL, packed, rewards
from reward_server.compat.query import PARAMETERS
from reward_server.compat.vllm_bodies import (
    REPLIERS,
    ChatBody,
    Classification,
    ClassifyReply,
    Common,
    Document,
    PairScore,
    Pooled,
    PooledBytes,
    PoolingBody,
    PoolingReply,
    Ranked,
    RerankBody,
    RerankReply,
    RerankUsage,
    ScoreBody,
    ScoreReply,
    TextBody,
    Usage,
)
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRoute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reward_server.compat.core import Answer
    from reward_server.runtime import Runtime

router = APIRouter(route_class=StrictJSONRoute, tags=["vLLM"])
ERRORS = describe("vllm")


async def classify(body: TextBody | ChatBody, request: Request, runtime: Runtime) -> ClassifyReply:
    """`/classify`: how good is each text, or a conversation's last turn."""
    answer, scores = await score_all(body, _inputs(body), request, runtime)
    return ClassifyReply(
        id=_id("classify", body, request),
        created=int(time.time()),
        model=answer.model,
        data=[Classification(index=i, label=LABEL, probs=[s]) for i, s in enumerate(scores)],
        usage=usage(answer),
    )


@router.post("/pooling", responses=ERRORS, response_model=PoolingReply, openapi_extra=PARAMETERS)
async def pooling(
    body: PoolingBody, request: Request, runtime: RuntimeDep
) -> PoolingReply | Response:
    """How good is each text, or a conversation's last turn: as numbers, in base64 or as bytes."""
    answer, scores = await score_all(body, _inputs(body), request, runtime)
    if body.encoding_format == "float":
        return _pooling_reply(body, request, answer, [[score] for score in scores])
    numbers = [packed(score, body.embed_dtype, body.endianness) for score in scores]
    if body.encoding_format == "base64":
        coded = [base64.b64encode(number).decode() for number in numbers]
        return _pooling_reply(body, request, answer, coded)
    headers = {}
    if body.encoding_format == "bytes":
        head = _pooling_reply(body, request, answer, []).model_dump(exclude={"object"})
        headers["metadata"] = json.dumps({**head, "data": _places(body, numbers)})
    return Response(b"".join(numbers), headers=headers, media_type="application/octet-stream")


def _pooling_reply(
    body: PoolingBody, request: Request, answer: Answer, data: Sequence[list[float] | str]
) -> PoolingReply:
    return PoolingReply(
        id=_id("pool", body, request),
        created=int(time.time()),
        model=answer.model,
        data=[Pooled(index=i, data=value) for i, value in enumerate(data)],
        usage=usage(answer),
    )


def _places(body: PoolingBody, numbers: Sequence[bytes]) -> list[dict[str, object]]:
    """Where each score stands in the bytes."""
    return [
        PooledBytes(
            index=i,
            embed_dtype=body.embed_dtype,
            endianness=body.endianness,
            start=i * len(number),
            end=(i + 1) * len(number),
            shape=[1],
        ).model_dump()
        for i, number in enumerate(numbers)
    ]


@router.post("/score", responses=ERRORS, openapi_extra=PARAMETERS)
async def score(body: ScoreBody, request: Request, runtime: RuntimeDep) -> ScoreReply:
    """How good is each document as a reply to its query."""
    queries = body.queries * len(body.documents) if len(body.queries) == 1 else body.queries
    pairs = zip(queries, body.documents, strict=True)
    inputs = [
        Input(f"documents[{i}]", prompt=query, completion=document)
        for i, (query, document) in enumerate(pairs)
    ]
    answer, scores = await score_all(body, inputs, request, runtime)
    return ScoreReply(
        id=_id("score", body, request),
        created=int(time.time()),
        model=answer.model,
        data=[PairScore(index=i, score=value) for i, value in enumerate(scores)],
        usage=usage(answer),
    )


@router.post("/v2/rerank", responses=ERRORS, openapi_extra=PARAMETERS)
async def rerank(body: RerankBody, request: Request, runtime: RuntimeDep) -> RerankReply:
    """Which document is the best reply to the query: the best first."""
    inputs = rerank_inputs(body)
    answer, scores = await score_all(body, inputs, request, runtime)
    return RerankReply(
        id=_id("rerank", body, request),
        model=answer.model,
        usage=RerankUsage(prompt_tokens=answer.tokens, total_tokens=answer.tokens),
        results=[
            Ranked(
                index=i,
                document=Document(text=body.documents[i] if body.return_documents else None),
                relevance_score=scores[i],
            )
            for i in best_first(scores, body.top_n)
        ],
    )


def rerank_inputs(body: RerankBody) -> list[Input]:
    """The query with each document."""
    return [
        Input(f"documents[{i}]", prompt=body.query, completion=document)
        for i, document in enumerate(body.documents)
    ]


def best_first(scores: Sequence[float], most: int | None = None) -> list[int]:
    """Positions by falling score; equal scores keep their order. None and 0 = all of them."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return order[: most or None]


def usage(answer: Answer) -> Usage:
    """The tokens of an answer, as OpenAI's clients read them."""
    return Usage(prompt_tokens=answer.tokens, total_tokens=answer.tokens)


async def score_all(
    body: Common, inputs: Sequence[Input], request: Request, runtime: Runtime
) -> tuple[Answer, list[float]]:
    """Score the inputs of a body, cut and activated as it says."""
    answer = await core.answer(
        runtime,
        request,
        inputs,
        model=body.model,
        truncate=body.truncation_side or "left",
        max_tokens=body.max_tokens,
    )
    return answer, rewards(answer, inputs, activated=body.use_activation is True)


def _inputs(body: TextBody | ChatBody) -> list[Input]:
    if isinstance(body, ChatBody):
        return [_conversation(body)]
    return [_text_input(body, i) for i in range(len(body.input))]


def _text_input(body: TextBody, index: int) -> Input:
    text, path = body.input[index], f"input[{index}]"
    if isinstance(text, str) and body.add_special_tokens:
        return Input(path, text=text)
    return Input(path, ids=text)


def _conversation(body: ChatBody) -> Input:
    """What comes after the last turn of another role is scored; all before it is the prompt."""
    others = [i for i, turn in enumerate(body.messages) if turn.role not in REPLIERS]
    start = others[-1] + 1
    return Input(
        "messages",
        prompt=body.messages[:start],
        completion=body.messages[start:],
        finished=not body.continue_final_message,
    )


def _id(kind: str, body: Common, request: Request) -> str:
    return f"{kind}-{body.request_id or request.state.request_id}"
