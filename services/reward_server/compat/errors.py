"""Errors in the shape of the system whose route was called: one table of statuses and bodies.

A path has a dialect before its body is read; a route that two systems share sets
`request.state.dialect` once it has read the body. What is natively 409 (a version that is not
resident), 429 or 504 is 503 on every compatible route: trainers try a 503 again, and give up on
other codes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from starlette.responses import Response

from assay.schemas.problem import MEDIA_TYPE, Problem, to_problem
from reward_server.problems import error_headers, problem_response

if TYPE_CHECKING:
    from starlette.requests import Request

    from assay.errors import AssayError

# `plain`: systems whose clients look at the status only get the native body.
Dialect = Literal["plain", "vllm", "sglang", "sglang_v1", "tei"]

DIALECTS: Mapping[str, Dialect] = {
    "/get_reward": "plain",
    "/rm": "plain",
    "/seed_session": "plain",
    "/verify": "plain",
    "/classify": "vllm",
    "/v1/classify": "sglang_v1",
    "/pooling": "vllm",
    "/score": "vllm",
    "/rerank": "vllm",
    "/v1/rerank": "vllm",
    "/v2/rerank": "vllm",
    "/v1/embeddings": "sglang_v1",
    "/predict": "tei",
    "/info": "tei",
}
_WAITS = {409: 503, 429: 503, 504: 503}
_VLLM_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    413: "BadRequestError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}
_TEI_TYPES = {422: "Validation", 424: "Backend", 503: "Unhealthy"}

Body = Callable[[Problem], Any]


class _Shape(NamedTuple):
    """How one dialect writes an error; `body` gives None for an empty body."""

    statuses: Mapping[int, int]
    body: Body
    media_type: str = "application/json"


def _plain(problem: Problem) -> Any:
    return problem.model_dump(exclude_none=True)


def _openai(problem: Problem) -> dict[str, Any]:
    return {
        "message": problem.detail,
        "type": _VLLM_TYPES.get(problem.status, problem.title),
        "param": problem.errors[0].path if problem.errors else None,
        "code": problem.status,
    }


def _vllm(problem: Problem) -> Any:
    return {"error": "Unauthorized" if problem.status == 401 else _openai(problem)}


def _sglang(problem: Problem) -> Any:
    return {"error": {"message": problem.detail}}


def _sglang_v1(problem: Problem) -> Any:
    return {"object": "error", **_openai(problem)}


def _tei(problem: Problem) -> Any:
    if problem.status == 401:
        return None
    kind = _TEI_TYPES.get(problem.status, "Validation")
    if problem.type.endswith(":overloaded"):
        kind = "Overloaded"
    return {"error": problem.detail, "error_type": kind}


_SHAPES: Mapping[Dialect, _Shape] = {
    "plain": _Shape(_WAITS, _plain, MEDIA_TYPE),
    "vllm": _Shape({**_WAITS, 422: 400}, _vllm),
    "sglang": _Shape({**_WAITS, 422: 400}, _sglang),
    "sglang_v1": _Shape({**_WAITS, 422: 400}, _sglang_v1),
    "tei": _Shape({**_WAITS, 400: 422, 500: 424}, _tei),
}


def refusal(error: AssayError, request: Request) -> Response:
    """An error as the client that sent the request reads it; natively a problem document."""
    request_id: str | None = getattr(request.state, "request_id", None)
    dialect: Dialect | None = getattr(request.state, "dialect", None)
    if dialect is None:
        return problem_response(error, request_id)
    shape = _SHAPES[dialect]
    problem = to_problem(error, request_id)
    status = shape.statuses.get(problem.status, problem.status)
    body = shape.body(problem.model_copy(update={"status": status}))
    return Response(
        None if body is None else json.dumps(body),
        status_code=status,
        headers=error_headers(error, status),
        media_type=shape.media_type,
    )


def describe(dialect: Dialect) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of a scoring route in a dialect."""
    shape = _SHAPES[dialect]
    native = (400, 401, 403, 404, 413, 422, 500, 503)
    statuses = sorted({shape.statuses.get(status, status) for status in native})
    schema = {"$ref": "#/components/schemas/Problem"} if dialect == "plain" else {"type": "object"}
    content = {"content": {shape.media_type: {"schema": schema}}}
    return {
        status: {
            "description": "Refused.",
            **({} if (dialect, status) == ("tei", 401) else content),
        }
        for status in statuses
    }
