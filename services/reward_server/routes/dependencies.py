"""What routes share: the runtime, strict JSON, and the checks that come before any scoring."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import pydantic_core
from fastapi import Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute

from assay.schemas.scoring import ScoringOptions
from reward_server.runtime import Runtime


class StrictJSONRequest(Request):
    """Reads bodies as JSON proper: no NaN, no lone surrogates, UTF-8 only."""

    async def json(self) -> Any:
        """The parsed body; 400 if it is not JSON."""
        if not hasattr(self, "_json"):
            try:
                self._json = pydantic_core.from_json(await self.body(), allow_inf_nan=False)
            except ValueError as error:
                raise HTTPException(400, f"the body is not JSON: {error}") from error
        return self._json


class StrictJSONRoute(APIRoute):
    """A route whose bodies are read by `StrictJSONRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, on the stricter request."""
        handler = super().get_route_handler()

        async def strict_handler(request: Request) -> Response:
            return await handler(StrictJSONRequest(request.scope, request.receive))

        return strict_handler


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


def check_pins(runtime: Runtime, request: Request, options: ScoringOptions | None = None) -> None:
    """Hold the version that answers against every pin of the request; see `Runtime.check_pins`."""
    named = [options.model] if options is not None and options.model else []
    runtime.check_pins([*request.state.pins, *named])
