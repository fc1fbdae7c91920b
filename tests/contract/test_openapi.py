"""The OpenAPI document against the running app, by schemathesis: no server error, no surprise."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from numpy.typing import NDArray
from schemathesis import BaseSchema, Case, CheckContext, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from assay.models.scorer import EncodedInput
from redis_server import RedisServer
from reward_server.app import create_app
from toy import ToyScorer, http_server, toy_settings

NATIVE_ROUTES = {
    "/v1/score": {"post"},
    "/v1/strength": {"post"},
    "/v1/contrastive": {"post"},
    "/v1/best-of-n": {"post"},
    "/v1/baselines": {"put"},
    "/v1/baselines/lookup": {"post"},
    "/v1/baselines/delete": {"post"},
    "/v1/samples": {"post"},
    "/v1/models": {"get"},
    "/v1/models/{name}": {"get"},
    "/v1/models/{name}/promote": {"post"},
    "/v1/models/{name}/rollback": {"post"},
    "/v1/promotions/{identifier}": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
    "/health": {"get"},
    "/ping": {"get"},
}
COMPATIBLE_ROUTES = {
    "/get_reward": {"post"},
    "/rm": {"post"},
    "/seed_session": {"post"},
    "/verify": {"post"},
    "/classify": {"post"},
    "/pooling": {"post"},
    "/score": {"post"},
    "/rerank": {"post"},
    "/v1/rerank": {"post"},
    "/v2/rerank": {"post"},
    "/v1/classify": {"post"},
    "/v1/embeddings": {"post"},
    "/predict": {"post"},
    "/info": {"get"},
}
EXPECTED_ROUTES = NATIVE_ROUTES | COMPATIBLE_ROUTES
# A GET without parameters cannot be asked wrongly.
GENERATED = [
    (path, method, mode)
    for path, methods in EXPECTED_ROUTES.items()
    for method in methods
    for mode in GenerationMode
    if method != "get" or mode is GenerationMode.POSITIVE
]


def document() -> dict[str, Any]:
    result: dict[str, Any] = create_app(toy_settings(), ToyScorer()).openapi()
    return result


def test_the_document_lists_the_routes_and_every_error_as_a_problem() -> None:
    paths = document()["paths"]
    assert {path: set(operations) for path, operations in paths.items()} == EXPECTED_ROUTES
    for path in NATIVE_ROUTES:
        for operation in paths[path].values():
            for status, reply in operation["responses"].items():
                if int(status) >= 400:
                    schema = reply["content"]["application/problem+json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}


def test_no_compatible_route_answers_409_429_or_504() -> None:
    paths = document()["paths"]
    for path in COMPATIBLE_ROUTES:
        for operation in paths[path].values():
            assert {"401", "503"} <= operation["responses"].keys()
            assert operation["responses"].keys().isdisjoint({"409", "429", "504"})


def test_every_request_body_has_an_example_that_the_app_accepts_as_valid() -> None:
    described = document()
    schemas = described["components"]["schemas"]
    with TestClient(create_app(toy_settings(), ToyScorer())) as client:
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                content = operation.get("requestBody", {}).get("content", {})
                schema = content.get("application/json", {}).get("schema")
                if schema is None:
                    continue
                for branch in schema.get("oneOf", [schema]):
                    name = branch["$ref"].rpartition("/")[2]
                    (example,) = schemas[name]["examples"]
                    reply = client.request(method, path, json=example)
                    # Without Redis, what is stored is unavailable; all else is a bad example.
                    assert reply.status_code in (200, 503), (path, reply.text)


class FiniteScorer(ToyScorer):
    """The toy without its NaN for a byte 0, which is a server error by right."""

    def score(self, batch: Sequence[EncodedInput]) -> NDArray[np.float64]:
        return np.nan_to_num(super().score(batch))


@pytest.fixture(scope="module")
def api() -> Iterator[BaseSchema]:
    """The schema of a server on a real socket with a real Redis."""
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        redis = RedisServer(Path(folder))
        redis.start()
        app = create_app(toy_settings(redis_url=redis.url), FiniteScorer())
        with http_server(app) as url:
            yield schemathesis.openapi.from_url(f"{url}/openapi.json")
        redis.stop()


def only_waits(ctx: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """503 is no fault of a compatible route: a query may ask for a baseline that is not stored."""
    if case.operation.path in COMPATIBLE_ROUTES and response.status_code == 503:
        return None
    return not_a_server_error(ctx, response, case)


@pytest.mark.integration
@pytest.mark.parametrize(("path", "method", "mode"), GENERATED)
def test_generated_requests_get_documented_answers(
    api: BaseSchema, path: str, method: str, mode: GenerationMode
) -> None:
    operation = api[path][method]

    @settings(
        max_examples=25 if path in NATIVE_ROUTES else 8,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Case[Any]) -> None:
        case.call_and_validate(
            checks=[
                only_waits,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ]
        )

    check()
