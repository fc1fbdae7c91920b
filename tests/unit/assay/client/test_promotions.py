"""Promote, rollback and their progress, by both clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assay.errors import ConflictError, InvalidInputError, UnavailableError
from scripted_server import problem, reply

Make = Callable[..., Any]

PROMOTION = {
    "id": "a1", "model": "toy@7", "kind": "promote", "by": "person", "swap_when": "quiet",
    "state": "prepare", "reason": None, "epoch": 3, "created": 1.5, "replicas": ["r1", "r2"],
}  # fmt: skip


def test_promote_rollback_and_progress(make_client: Make, serve: Make) -> None:
    server = serve(lambda request: reply(PROMOTION, 200 if request.method == "GET" else 202))
    client = make_client(url=server.url)
    assert client.promote("Org/toy@7").state == "prepare"
    assert client.promote("toy@7", wait_s=2.5, swap_when="now").replicas == ["r1", "r2"]
    assert client.rollback("toy", wait_s=10).epoch == 3
    assert client.promotion("a/1").id == "a1"
    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", "/v1/models/org--toy@7/promote?wait_s=0"),
        ("POST", "/v1/models/toy@7/promote?wait_s=2.5&swap_when=now"),
        ("POST", "/v1/models/toy/rollback?wait_s=10"),
        ("GET", "/v1/promotions/a%2F1"),
    ]


def test_a_refusal_is_a_conflict_with_its_reason(make_client: Make, serve: Make) -> None:
    server = serve(lambda _: problem(409, "conflict", "r1: adapter 3 differs from its digest"))
    with pytest.raises(ConflictError, match="adapter 3"):
        make_client(url=server.url).promote("toy@7")


def test_what_moves_versions_is_sent_once(make_client: Make, serve: Make) -> None:
    server = serve(lambda _: problem(503, "dependency-down"))
    client = make_client(url=server.url)
    for method, model in (("promote", "toy@7"), ("rollback", "toy")):
        with pytest.raises(UnavailableError):
            getattr(client, method)(model)
    assert len(server.requests) == 2


@pytest.mark.parametrize("model", ["toy", "a b", ""])
def test_a_promotion_names_its_version(make_client: Make, model: str) -> None:
    with pytest.raises(InvalidInputError):
        make_client().promote(model)
