"""Around every request: its id, its pins, its key, its place in the count, its time.

A path may begin with `/m/name@7` (a pin), with `/k/KEY` for clients that cannot send headers (such
a key holds no slash) and with `/q/reward=lcb&lcb_k=2` for clients that append a path to a base URL,
where a query would be lost; in any order. What these prefixes hold is never logged.
"""

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

from assay.errors import AssayError, RateLimitedError
from assay.schemas.problem import kind_of
from reward_server.compat.errors import DIALECTS, refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reward_server.keys import Scope as KeyScope
    from reward_server.runtime import Runtime

OPEN_ROUTES = frozenset({"/healthz", "/readyz"})
# Reading the state of a server is let in while it drains, and is not counted as work.
_NO_WORK = OPEN_ROUTES | {
    "/metrics",
    "/openapi.json",
    "/docs",
    "/v1/models",
    "/info",
    "/health",
    "/ping",
}
_NATIVE_SCORING = frozenset({"/v1/score", "/v1/strength", "/v1/contrastive", "/v1/best-of-n"})
SCORING_ROUTES = _NATIVE_SCORING | DIALECTS.keys() - {"/info", "/seed_session"}
_WRITING_ROUTES = frozenset({"/v1/samples", "/v1/baselines", "/v1/baselines/delete"})
# What a key over its rate is answered there, its route says, once it has read whose body it is.
_SHARED_WITH_OTHERS = frozenset({"/v1/score"})
_PREFIX = re.compile(r"/([kmq])/([^/]+)(/.*)")
_MAX_PREFIXES = 8
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
        scope, key, request.state.pins = _take_prefixes(scope)
        request.state.pins += _other_pins(scope, request)
        request.state.dialect = DIALECTS.get(scope["path"])
        request.state.over_rate = None
        structlog.contextvars.bind_contextvars(request_id=request.state.request_id)
        answer = _Answer(send, request, self._runtime)
        started_s = time.monotonic()
        try:
            await self._admit(request, scope["path"], f"Bearer {key}" if key else None)
        except AssayError as error:
            self._runtime.metrics.errors.labels(kind_of(error).slug).inc()
            await refusal(error, request)(scope, receive, answer.send)
        else:
            await self._forward(scope, receive, answer)
        finally:
            self._observe(scope, answer.status, time.monotonic() - started_s)

    async def _admit(self, request: Request, path: str, authorization: str | None) -> None:
        if path not in OPEN_ROUTES:
            try:
                await self._check_key(path, authorization or request.headers.get("authorization"))
            except RateLimitedError as error:
                if path not in _SHARED_WITH_OTHERS:
                    raise
                request.state.over_rate = error
        if path not in _NO_WORK:
            self._runtime.check_ready()

    async def _check_key(self, path: str, authorization: str | None) -> None:
        """Wait for the rate of a key on a compatible route: its client gives up on a 429."""
        settings = self._runtime.settings
        wait_s = settings.compat_wait_s if path in DIALECTS else 0.0
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                settings.keyring.admit(authorization, _needed_scope(path))
            except RateLimitedError as error:
                pause_s = error.retry_after_s or 0.0
                if time.monotonic() + pause_s > deadline_s:
                    raise
                await asyncio.sleep(pause_s)
            else:
                return

    async def _forward(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        counted = scope["path"] not in _NO_WORK
        if counted:
            self._runtime.begin_request()
        try:
            if scope["path"] in SCORING_ROUTES and not scope["state"]["over_rate"]:
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
    """Passes a reply on, with request id, version and truncated inputs in its headers."""

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
            if truncated := getattr(self._state, "truncated", 0):
                headers["X-Assay-Truncated"] = str(truncated)  # most systems' bodies cannot say so
        await self._send(message)


def _request_id(given: str | None) -> str:
    return given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _declared_length(scope: Scope) -> int:
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    return int(declared) if declared.isdigit() else 0


def _take_prefixes(scope: Scope) -> tuple[Scope, str | None, list[str]]:
    """Take what stands before the route off the path: the rest, the key and the pins."""
    key, pins, path, query = None, [], scope["path"], scope["query_string"]
    for _ in range(_MAX_PREFIXES):
        prefixed = _PREFIX.fullmatch(path)
        if prefixed is None:
            break
        kind, value, path = prefixed.groups()
        if kind == "k":
            key = value
        elif kind == "m":
            pins.append(value)
        else:
            query = b"&".join(filter(None, (value.encode(), query)))
    if path is not scope["path"]:
        scope = {**scope, "path": path, "raw_path": path.encode(), "query_string": query}
    return scope, key, pins


def _other_pins(scope: Scope, request: Request) -> list[str]:
    """The versions named in query and header."""
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return query.get("model", []) + request.headers.getlist("x-assay-model")


def _needed_scope(path: str) -> KeyScope | None:
    if path.startswith("/v1/promotions/") or path.endswith(("/promote", "/rollback")):
        return "admin"
    if path in _NO_WORK or path.startswith("/v1/models/"):
        return None
    return "samples" if path in _WRITING_ROUTES else "score"
