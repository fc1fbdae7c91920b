"""The FastAPI app of one replica. Knows no Ray: any ASGI server can run it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import assay
from assay.schemas.problem import Problem
from reward_server import problems
from reward_server.compat import clashes, nemo_gym, openrlhf, sglang, slime, tei, vllm
from reward_server.compat.errors import refusal
from reward_server.middleware import Gateway
from reward_server.routes import contrastive, health, models, promotions, score, storage, strength
from reward_server.runtime import Runtime

if TYPE_CHECKING:
    from assay.models.scorer import Scorer
    from reward_server.composite.plan import Parts
    from reward_server.reload.source import VersionSource
    from reward_server.settings import ServerSettings

NATIVE = (score, strength, contrastive, storage, models, promotions, health)
COMPATIBLE = (openrlhf, slime, nemo_gym, clashes, vllm, sglang, tei)


def create_app(
    settings: ServerSettings,
    scorer: Scorer,
    source: VersionSource | None = None,
    parts: Parts | None = None,
) -> FastAPI:
    """Wire one replica: the model behind the routes, with the errors and checks around them.

    Args:
        settings: what the operator chose.
        scorer: the version that serves at first.
        source: where other versions come from; None = the server serves this version only.
        parts: what else goes into the scores; None = nothing.
    """
    runtime = Runtime(settings, scorer, source, parts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        yield
        await runtime.close()

    app = FastAPI(
        title="Assay",
        version=assay.__version__,
        summary="Rewards for RLHF: how good, how sure, how much better than the baseline.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would lose the key and the version of the path
    )
    app.state.runtime = runtime
    app.add_middleware(Gateway, runtime=runtime)
    problems.install(app, runtime.metrics, refusal)
    for module in (*NATIVE, *COMPATIBLE):
        app.include_router(module.router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document plus what it cannot know: the problem schema and the key."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        components = document.setdefault("components", {})
        template = "#/components/schemas/{model}"
        schema = Problem.model_json_schema(ref_template=template)
        components["schemas"].update(schema.pop("$defs", {}))
        components["schemas"]["Problem"] = schema
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}, {}]
        app.openapi_schema = document
    return app.openapi_schema
