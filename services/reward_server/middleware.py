"""Around every request: its id, its pins, its key, its place in the count, its time."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request

from assay.errors import AssayError
from assay.schemas.problem import kind_of
from reward_server.problems import problem_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reward_server.keys import Scope as KeyScope
    from reward_server.runtime import Runtime

OPEN_ROUTES = frozenset({"/healthz", "/readyz"})
# Reading the state of a server is let in while it drains, and is not counted as work.
_NO_WORK = OPEN_ROUTES | {"/metrics", "/openapi.json", "/docs", "/v1/models"}
SCORING_ROUTES = frozenset({"/v1/score", "/v1/strength", "/v1/contrastive", "/v1/best-of-n"})
_WRITING_ROUTES = frozenset({"/v1/samples", "/v1/baselines", "/v1/baselines/delete"})
_PIN_PREFIX = re.compile(r"/m/([^/]+)(/.*)")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Gateway:
    """Pure ASGI, so that streaming, cancellation and hang-ups pass through untouched."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request.state.request_id = _request_id(request.headers.get("x-request-id"))
        scope, request.state.pins = _take_pins(scope, request)
        structlog.contextvars.bind_contextvars(request_id=request.state.request_id)
        answer = _Answer(send, request, self._runtime)
        started_s = time.monotonic()
        try:
            await self._admit(scope, request)
        except AssayError as error:
            self._runtime.metrics.errors.labels(kind_of(error).slug).inc()
            await problem_response(error, request.state.request_id)(scope, receive, answer.send)
        else:
            await self._forward(scope, receive, answer)
        finally:
            self._observe(scope, answer.status, time.monotonic() - started_s)

    async def _admit(self, scope: Scope, request: Request) -> None:
        path = scope["path"]
        if path not in OPEN_ROUTES:
            authorization = request.headers.get("authorization")
            self._runtime.settings.keyring.admit(authorization, _needed_scope(path))
        if path not in _NO_WORK:
            self._runtime.check_ready()

    async def _forward(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        counted = scope["path"] not in _NO_WORK
        if counted:
            self._runtime.begin_request()
        try:
            if scope["path"] in SCORING_ROUTES:
                await self._score(scope, receive, answer)
            else:
                await self._app(scope, self._bounded(scope, receive), answer.send)
        finally:
            if counted:
                self._runtime.end_request()

    async def _score(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        door = self._runtime.door
        await door.enter()
        try:
            await self._app(scope, self._bounded(scope, receive), answer.send)
        finally:
            door.leave()

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Stop reading a body at the limits of size, whether declared or not, and of time."""
        settings = self._runtime.settings
        too_large = HTTPException(413, f"the body is over {settings.max_body_bytes} bytes")
        too_slow = HTTPException(
            400, f"the body was not complete after {settings.body_timeout_s:g} s"
        )
        declared = _declared_length(scope)
        deadline_s = asyncio.get_running_loop().time() + settings.body_timeout_s
        read, is_whole = 0, False

        async def bounded() -> Message:
            nonlocal read, is_whole
            if is_whole:  # what comes now is the end of the connection
                return await receive()
            if declared > settings.max_body_bytes:
                raise too_large
            try:
                async with asyncio.timeout_at(deadline_s):
                    message = await receive()
            except TimeoutError:
                raise too_slow from None
            read += len(message.get("body", b""))
            if read > settings.max_body_bytes:
                raise too_large
            is_whole = not message.get("more_body", False)
            return message

        return bounded

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        name = getattr(route, "path", "unmatched")
        self._runtime.metrics.requests.labels(name, str(status)).inc()
        self._runtime.metrics.request_seconds.labels(name).observe(seconds)


class _Answer:
    """Passes a reply on, with the request id and the version in its headers."""

    def __init__(self, send: Send, request: Request, runtime: Runtime) -> None:
        self._send = send
        self._state = request.state
        self._versions = runtime.versions
        self.status = 499  # what is counted if the client went away before the reply began

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._state.request_id
            answered_by = getattr(self._state, "model", self._versions.serving.card.id)
            headers["X-Assay-Model"] = answered_by
        await self._send(message)


def _request_id(given: str | None) -> str:
    return given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _declared_length(scope: Scope) -> int:
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    return int(declared) if declared.isdigit() else 0


def _take_pins(scope: Scope, request: Request) -> tuple[Scope, list[str]]:
    """The versions named in path prefix, query and header; the prefix is taken off the path."""
    pins = []
    prefixed = _PIN_PREFIX.fullmatch(scope["path"])
    if prefixed:
        pins.append(prefixed.group(1))
        scope = {**scope, "path": prefixed.group(2), "raw_path": prefixed.group(2).encode()}
    pins += parse_qs(scope["query_string"].decode("latin-1")).get("model", [])
    pins += request.headers.getlist("x-assay-model")
    return scope, pins


def _needed_scope(path: str) -> KeyScope | None:
    if path.startswith("/v1/promotions/") or path.endswith(("/promote", "/rollback")):
        return "admin"
    if path in _NO_WORK or path.startswith("/v1/models/"):
        return None
    return "samples" if path in _WRITING_ROUTES else "score"
