"""Every method of both clients: what it sends, and what it makes of the reply."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from assay.errors import InvalidInputError
from assay.schemas.scoring import Group, Pair
from assay.schemas.storage import BaselineSet
from scripted_server import Answer, length_scores, problem, reply

Make = Callable[..., Any]

CARD = {
    "id": "toy@7",
    "assay": {
        "alias": ["serving"], "replicas": 1, "format": "chat", "pool": "last", "members": 1,
        "max_tokens": 8, "digest": "d", "lineage": [], "metrics": {}, "recipe": {},
        "calibration": None,
    },
}  # fmt: skip


def test_score_of_one_prompt(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    scores = make_client(url=server.url).score("p", ["a", "bbb"], aggregate="lcb", lcb_k=2.0)
    assert (scores.scores, scores.std) == ([1.0, 3.0], [0.5, 0.5])
    assert server.requests[0].method == "POST"
    assert server.requests[0].body == {
        "groups": [{"prompt": "p", "completions": ["a", "bbb"]}], "aggregate": "lcb", "lcb_k": 2.0
    }  # fmt: skip


def test_labels_and_finished_travel_with_the_completions(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    make_client(url=server.url).score("p", ["a", "b"], labels=[1, "x"], finished=[True, False])
    group = server.requests[0].body["groups"][0]
    assert (group["labels"], group["finished"]) == ([1, "x"], [True, False])


def test_groups_may_be_dicts_or_schema_objects(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    chat = [{"role": "user", "content": "hi", "name": "u"}]
    groups = [{"prompt": chat, "completions": ["a"]}, Group(prompt="q", completions=["bb"])]
    response = make_client(url=server.url).score_groups(groups)
    assert response.model == "toy@7"
    assert [result.scores for result in response.results] == [[1.0], [2.0]]
    assert server.requests[0].body["groups"][0]["prompt"] == chat


def test_a_score_that_is_null_stays_none(make_client: Make, serve: Make) -> None:
    result = {"scores": [None, 2.0], "std": None, "tokens": [1, 1], "truncated": [False, True]}
    server = serve(lambda _: reply({"model": "toy@7", "format": "pair", "results": [result]}))
    scores = make_client(url=server.url).score("p", ["a", "b"])
    assert scores.scores == [None, 2.0]
    assert scores.std is None


def test_strength_of_one_pair_and_of_many(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    client = make_client(url=server.url)
    assert client.strength("p", "aaa", "b").mean == 2.0
    pairs = [{"prompt": "p", "chosen": "a", "rejected": "bb"},
             Pair(prompt="p", chosen="aa", rejected="b")]  # fmt: skip
    assert [pair.mean for pair in client.strength_pairs(pairs, members=True).results] == [-1.0, 1.0]
    assert server.requests[1].body["members"] is True


def test_contrastive_rewards_of_one_prompt_and_of_many(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    client = make_client(url=server.url)
    rewards = client.contrastive("p", ["aaa"], baselines=["b"], statistic="median")
    assert rewards.rewards == [2.0]
    assert rewards.baseline.source == "inline"
    assert server.requests[0].body["groups"][0]["baselines"] == ["b"]
    client.contrastive_groups([{"prompt": "p", "completions": ["a"]}], policy="sft")
    assert "baselines" not in server.requests[1].body["groups"][0]
    assert server.requests[1].body["policy"] == "sft"


def test_best_of_one_prompt_and_of_many(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    client = make_client(url=server.url)
    assert client.best_of_n("p", ["a", "bbb", "cc"]).index == 1
    groups = [{"prompt": "p", "completions": ["aa", "b"]}]
    assert client.best_of_n_groups(groups).results[0].index == 0
    assert [request.path for request in server.requests] == ["/v1/best-of-n"] * 2


def test_baselines_are_put_looked_up_and_deleted(make_client: Make, serve: Make) -> None:
    stored = {"items": [{"policy": "sft", "completions": ["a"]}]}
    answers = {
        "/v1/baselines": {"stored": 1}, "/v1/baselines/lookup": stored,
        "/v1/baselines/delete": {"deleted": 1},
    }  # fmt: skip
    server = serve(lambda request: reply(answers[request.path]))
    client = make_client(url=server.url)
    items = [BaselineSet(prompt="p", completions=["a"], policy="sft")]
    assert client.put_baselines(items).stored == 1
    assert client.lookup_baselines("p").items[0].completions == ["a"]
    assert client.delete_baselines("p", policy="sft").deleted == 1
    assert [request.method for request in server.requests] == ["PUT", "POST", "POST"]
    assert server.requests[2].body == {"prompt": "p", "policy": "sft"}


def test_models_are_listed_and_shown(make_client: Make, serve: Make) -> None:
    listed = {"object": "list", "data": [CARD]}
    server = serve(lambda request: reply(listed if request.path == "/v1/models" else CARD))
    client = make_client(url=server.url)
    assert [card.id for card in client.models().data] == ["toy@7"]
    assert client.model("toy@7").assay.alias == ["serving"]
    assert server.requests[1].path == "/v1/models/toy@7"


@pytest.mark.parametrize("method", ["health", "ready"])
def test_probes_answer_yes_or_no(make_client: Make, serve: Make, method: str) -> None:
    answers = iter([reply({}), problem(503, "not-ready"), Answer(503, b"<html>")])
    server = serve(lambda _: next(answers))
    client = make_client(url=server.url)
    assert [getattr(client, method)() for _ in range(3)] == [True, False, False]
    assert len(server.requests) == 3, "a probe asks once"


def test_probes_of_no_server_say_no(make_client: Make, free_port: int) -> None:
    client = make_client(url=f"http://127.0.0.1:{free_port}")
    assert client.ready() is False
    assert client.health() is False


@pytest.mark.parametrize(
    ("prompt", "completions", "path"),
    [
        ("secret", [], "groups[0].completions"),
        ("secret", ["ok", ""], "groups[0].completions[1]"),
        ("secret", "secret", "groups[0].completions"),
        ("secret", ["secret\ud800"], "groups[0].completions[0]"),
        ([{"role": "user", "content": 5}], ["a"], "groups[0].prompt[0].content"),
    ],
)
def test_wrong_arguments_are_named_and_not_repeated(
    make_client: Make, prompt: Any, completions: Any, path: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_client().score(prompt, completions)
    assert caught.value.fields[0].path.startswith(path)
    assert "secret" not in str(caught.value)


def test_groups_that_are_no_groups_are_refused(make_client: Make) -> None:
    with pytest.raises(InvalidInputError):
        make_client().score_groups(["secret"])


@pytest.mark.parametrize(("prompt", "label"), [("p", object()), ("secret\ud800", 1)])
def test_what_json_cannot_carry_is_refused(make_client: Make, prompt: str, label: object) -> None:
    with pytest.raises(InvalidInputError, match="JSON") as caught:
        make_client().score(prompt, ["a"], labels=[label])
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_closing_twice_is_fine(make_client: Make) -> None:
    client = make_client()
    client.close()
    client.close()
