"""One app around the toy for each file of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from reward_server.app import create_app
from toy import ToyScorer, toy_settings

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def http() -> Iterator[TestClient]:
    with TestClient(create_app(toy_settings(), ToyScorer())) as client:
        yield client


@pytest.fixture(scope="module")
def ask(http: TestClient) -> Ask:
    """Posts a body, checks the status, and gives the parsed reply."""

    def post(path: str, body: object, status: int = 200) -> Any:
        reply = http.post(path, json=body)
        assert reply.status_code == status, reply.text
        return reply.json()

    return post
