"""The OpenAPI document against the running app, by schemathesis: no server error, no surprise."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from redis_server import RedisServer
from reward_server.app import create_app
from toy import ToyScorer, http_server, toy_settings

EXPECTED_ROUTES = {
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
}
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
    for operations in paths.values():
        for operation in operations.values():
            for status, reply in operation["responses"].items():
                if int(status) >= 400:
                    schema = reply["content"]["application/problem+json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}


def test_every_request_body_has_an_example_that_the_app_accepts_as_valid() -> None:
    with TestClient(create_app(toy_settings(), ToyScorer())) as client:
        for path, operations in document()["paths"].items():
            for method, operation in operations.items():
                content = operation.get("requestBody", {}).get("content", {})
                schema = content.get("application/json", {}).get("schema")
                if schema is None:
                    continue
                name = schema["$ref"].rpartition("/")[2]
                (example,) = document()["components"]["schemas"][name]["examples"]
                reply = client.request(method, path, json=example)
                # Without Redis, what is stored is unavailable; all else would be a bad example.
                assert reply.status_code in (200, 503), (path, reply.text)


@pytest.fixture(scope="module")
def api() -> Iterator[BaseSchema]:
    """The schema of a server on a real socket with a real Redis."""
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        redis = RedisServer(Path(folder))
        redis.start()
        app = create_app(toy_settings(redis_url=redis.url), ToyScorer())
        with http_server(app) as url:
            yield schemathesis.openapi.from_url(f"{url}/openapi.json")
        redis.stop()


@pytest.mark.integration
@pytest.mark.parametrize(("path", "method", "mode"), GENERATED)
def test_generated_requests_get_documented_answers(
    api: BaseSchema, path: str, method: str, mode: GenerationMode
) -> None:
    operation = api[path][method]

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Case[Any]) -> None:
        case.call_and_validate(
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ]
        )

    check()
