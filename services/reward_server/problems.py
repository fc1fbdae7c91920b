"""Errors on their way out: one set of handlers, one counter, one description for OpenAPI."""

from __future__ import annotations

import http
import logging
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from assay.errors import (
    AssayError,
    MalformedRequestError,
    NotFoundError,
    PayloadTooLargeError,
)
from assay.schemas.problem import KINDS, MEDIA_TYPE, Problem, kind_of, to_problem
from assay.schemas.validation import invalid_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI
    from starlette.requests import Request

    from reward_server.metrics import ServerMetrics

logger = logging.getLogger(__name__)

_BY_STATUS: dict[int, type[AssayError]] = {
    400: MalformedRequestError,
    404: NotFoundError,
    413: PayloadTooLargeError,
}


def problem_response(error: AssayError, request_id: str | None) -> Response:
    """An error as `application/problem+json`."""
    problem = to_problem(error, request_id)
    return _respond(problem, error_headers(error, problem.status))


def error_headers(error: AssayError, status: int) -> dict[str, str]:
    """The headers that go with an error."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def _respond(problem: Problem, headers: dict[str, str]) -> Response:
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=problem.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def install(
    app: FastAPI, metrics: ServerMetrics, refusal: Callable[[AssayError, Request], Response]
) -> None:
    """Register the handlers on an app; `refusal` writes an error for the client that asked."""

    def answer(request: Request, error: AssayError) -> Response:
        metrics.errors.labels(kind_of(error).slug).inc()
        return refusal(error, request)

    async def on_assay_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, AssayError)  # noqa: S101 - registered for this class
        return answer(request, error)

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
        return answer(request, invalid_input(error.errors(), root=1))

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
        known = _BY_STATUS.get(error.status_code)
        if known is not None:
            return answer(request, known(str(error.detail)))
        title = http.HTTPStatus(error.status_code).phrase
        problem = Problem(
            type="about:blank", title=title, status=error.status_code, detail=str(error.detail)
        )
        return _respond(problem, dict(error.headers or {}))

    async def on_unexpected(request: Request, error: Exception) -> Response:
        logger.error("unexpected error", exc_info=error)
        return answer(request, AssayError("unexpected error; see the server's log"))

    app.add_exception_handler(AssayError, on_assay_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_unexpected)


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of a route, out of the same table that the handlers use."""
    return {status: _description(status) for status in statuses}


def _description(status: int) -> dict[str, Any]:
    titles = dict.fromkeys(kind.title for kind in KINDS if kind.status == status)
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": " / ".join(titles), "content": {MEDIA_TYPE: {"schema": schema}}}
