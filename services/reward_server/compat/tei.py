"""TEI's routes for rewards: `/predict`, `/rerank` with `texts`, `/info`.

Scores are raw unless a body says `"raw_scores": false` (or, as Hugging Face's `InferenceClient`
does, `"function_to_apply": "sigmoid"`); TEI itself takes a body that says nothing for false. An
input over the limit loses its oldest tokens unless `truncation_direction` is `right`, TEI's own
default. A text without a score is 422, as no later try would have one.

Of the headers that TEI sends, the replies carry those that are known here: characters, tokens and
the whole time, in milliseconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

import assay
from reward_server.compat import core
from reward_server.compat.core import Input
from reward_server.compat.errors import describe
from reward_server.compat.numbers import LABEL, rewards
from reward_server.compat.query import PARAMETERS
from reward_server.compat.tei_bodies import (
    Info,
    Labels,
    ModelType,
    PredictBody,
    Prediction,
    Rank,
    RerankBody,
)
from reward_server.compat.vllm import best_first
from reward_server.engine.load import default_batch_tokens
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRoute
from reward_server.versions import ENCODERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reward_server.runtime import Runtime

router = APIRouter(route_class=StrictJSONRoute, tags=["TEI"])
ERRORS = describe("tei")


@router.post("/predict", responses=ERRORS, openapi_extra=PARAMETERS)
async def predict(
    body: PredictBody, request: Request, response: Response, runtime: RuntimeDep
) -> list[Prediction] | list[list[Prediction]]:
    """How good is each text, or each completion for its prompt."""
    is_batch = isinstance(body.inputs, list)
    inputs = [
        _input(f"inputs[{i}]" if is_batch else "inputs", texts)
        for i, texts in enumerate(body.batch)
    ]
    scores = await _score(body, inputs, request, response, runtime)
    replies = [[Prediction(score=value, label=LABEL)] for value in scores]
    return replies if is_batch else replies[0]


async def rerank(
    body: RerankBody, request: Request, response: Response, runtime: Runtime
) -> list[Rank]:
    """`/rerank`: which text is the best reply to the query: the best first."""
    inputs = [
        Input(f"texts[{i}]", prompt=body.query, completion=text)
        for i, text in enumerate(body.texts)
    ]
    scores = await _score(body, inputs, request, response, runtime)
    return [
        Rank(index=i, score=scores[i], text=body.texts[i] if body.return_text else None)
        for i in best_first(scores)
    ]


@router.get("/info", responses=ERRORS)
async def info(runtime: RuntimeDep) -> Info:
    """What is served, with the limits that TEI's clients read."""
    card, settings = runtime.versions.serving.card, runtime.settings
    return Info(
        model_id=card.id,
        model_sha=card.assay.digest,
        model_dtype=settings.load.dtype,
        served_model_name=runtime.versions.name,
        model_type=ModelType(reranker=Labels(id2label={"0": LABEL}, label2id={LABEL: 0})),
        max_concurrent_requests=settings.max_queue_texts,
        max_input_length=card.assay.max_tokens,
        max_batch_tokens=settings.max_batch_tokens or default_batch_tokens(),
        max_client_batch_size=settings.max_request_texts,
        tokenization_workers=ENCODERS,
        version=assay.__version__,
    )


async def _score(
    body: PredictBody | RerankBody,
    inputs: Sequence[Input],
    request: Request,
    response: Response,
    runtime: Runtime,
) -> list[float]:
    started_s = time.monotonic()
    answer = await core.answer(runtime, request, inputs, truncate=body.on_too_long)
    milliseconds = str(round(1000 * (time.monotonic() - started_s)))
    response.headers["x-compute-characters"] = str(sum(map(_characters, inputs)))
    response.headers["x-compute-tokens"] = str(answer.tokens)
    response.headers["x-compute-time"] = response.headers["x-total-time"] = milliseconds
    return rewards(answer, inputs, activated=body.activated)


def _input(path: str, texts: tuple[str, ...]) -> Input:
    if len(texts) == 1:
        return Input(path, text=texts[0])
    return Input(path, prompt=texts[0], completion=texts[1])


def _characters(entry: Input) -> int:
    parts = (entry.text, entry.prompt, entry.completion)
    return sum(len(part) for part in parts if isinstance(part, str))
