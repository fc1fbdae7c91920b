"""What routes share: the runtime, strict JSON, and the checks that come before any scoring."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

import pydantic_core
from fastapi import Depends, Header, HTTPException, Request, Response
from fastapi.routing import APIRoute

from assay.errors import InvalidInputError
from assay.schemas.refs import parse_pin
from assay.schemas.scoring import Group, ScoringOptions
from assay.schemas.text import Prompt
from reward_server.runtime import Runtime
from reward_server.versions import Resident


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
            if not isinstance(request, StrictJSONRequest):
                request = StrictJSONRequest(request.scope, request.receive)
            return await handler(request)

        return strict_handler


# Dependencies are coroutines although none waits: FastAPI sends functions through a thread.
async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


def answering(
    runtime: Runtime, request: Request, options: ScoringOptions, prompts: Iterable[Prompt]
) -> AbstractContextManager[Resident]:
    """The version that answers a scoring request; see `Runtime.answering`."""
    pins = [*request.state.pins, *([options.model] if options.model else [])]
    return _named(runtime.answering(pins, prompts), request)


@contextmanager
def _named(chosen: AbstractContextManager[Resident], request: Request) -> Iterator[Resident]:
    with chosen as resident:
        request.state.model = resident.card.id  # for the reply's header
        yield resident


async def _tap(
    runtime: RuntimeDep,
    x_assay_policy: Annotated[
        str | None,
        Header(min_length=1, max_length=256, description="Policy of tapped samples; else `tap`."),
    ] = None,
    x_assay_step: Annotated[
        int | None, Header(ge=0, le=2**53, description="Step of that policy, for tapped samples.")
    ] = None,
) -> Callable[[Sequence[Group], ScoringOptions], None]:
    def tapped(groups: Sequence[Group], options: ScoringOptions) -> None:
        if runtime.tap is not None:
            runtime.tap.offer(groups, x_assay_policy, x_assay_step, raw=options.raw)

    return tapped


TapDep = Annotated[Callable[[Sequence[Group], ScoringOptions], None], Depends(_tap)]


async def refuse_pins(runtime: RuntimeDep, request: Request) -> None:
    """Refuse a version on a route where no version answers.

    Raises:
        InvalidInputError: the request is pinned to one.
    """
    for pin in request.state.pins:
        runtime.versions.choose([parse_pin(pin).name])
        if parse_pin(pin).version is not None:
            raise InvalidInputError(f"this route scores nothing, so that the pin {pin} is no use")
