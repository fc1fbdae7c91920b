"""Reward functions for TRL: groups, labels, modes, what is logged. The trainers: tests/clients."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pytest

from assay.errors import (
    InvalidInputError,
    ScoringError,
    ServerUnreachableError,
    UnauthorizedError,
)
from assay.integrations.trl import AssayReward, AsyncAssayReward
from scripted_server import Answer, Received, ScriptedServer, problem, reply

Serve = Callable[..., ScriptedServer]
Ask = Callable[..., Any]


@dataclass
class State:
    global_step: int


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Makes a reward function of either kind with some settings, and calls it once."""

    def waits(settings: dict[str, Any], **call: Any) -> Any:
        reward = AssayReward(**settings)
        try:
            return reward(**call)
        finally:
            reward.close()

    def awaits(settings: dict[str, Any], **call: Any) -> Any:
        async def run() -> Any:
            reward = AsyncAssayReward(**settings)
            try:
                return await reward(**call)
            finally:
                await reward.aclose()

        return asyncio.run(run())

    return waits if request.param == "sync" else awaits


def test_equal_prompts_in_a_row_are_one_group(serve: Serve, ask: Ask) -> None:
    server = serve()
    prompts, completions = ["p", "p", "q", "p"], ["a", "ab", "abc", "abcd"]
    assert ask({}, prompts=prompts, completions=completions) == [1.0, 2.0, 3.0, 4.0]
    (request,) = server.requests
    assert request.body == {
        "groups": [
            {"prompt": "p", "completions": ["a", "ab"]},
            {"prompt": "q", "completions": ["abc"]},
            {"prompt": "p", "completions": ["abcd"]},
        ]
    }


def test_conversations_and_empty_completions_are_sent_as_messages(serve: Serve, ask: Ask) -> None:
    server = serve()
    chat = [{"role": "user", "content": "hi"}]
    answer = [{"role": "assistant", "content": "hello"}]
    ask({}, prompts=[chat, "p"], completions=[answer, ""])
    assert server.requests[0].body["groups"] == [
        {"prompt": chat, "completions": [answer]},
        {"prompt": "p", "completions": [[{"role": "assistant", "content": ""}]]},
    ]


def test_labels_and_completions_cut_by_the_limit_are_told(serve: Serve, ask: Ask) -> None:
    server = serve()
    ask(
        {"label_column": "solution", "eos_token_id": 2},
        prompts=["p", "p", "p"],
        completions=["a", "b", ""],
        completion_ids=[[5, 2], [5, 6], []],
        solution=["4", "5", None],
        other=[1, 2, 3],
    )
    (group,) = server.requests[0].body["groups"]
    assert group["labels"] == ["4", "5", None]
    assert group["finished"] == [True, False, False]


NOT_SCORED = {"scores": [None, 1.5], "std": None, "tokens": [1, 1], "truncated": [False, False]}


@pytest.mark.parametrize(
    ("version", "metrics", "known"),
    [
        ("1.6.0", True, True),
        ("2.0.0.dev0", True, True),
        ("1.5.1", True, False),
        ("2.1", False, False),
    ],
)
def test_no_score_is_an_error_in_a_trainer_that_would_make_0_of_it(
    serve: Serve,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    metrics: bool,
    known: bool,
) -> None:
    """TRL 1.5 takes the sum over what is no NaN, and so do SDPO and OnlineDPO, without metrics."""
    monkeypatch.setattr(metadata, "version", lambda _: version)
    serve(lambda _: reply({"model": "m@1", "format": "chat", "results": [NOT_SCORED]}))
    call: dict[str, Any] = {"prompts": ["p", "p"], "completions": ["a", "b"]}
    call |= {"trainer_state": State(1), "log_metric": print if metrics else None}
    if known:
        assert ask({}, **call) == [None, 1.5]
    else:
        with pytest.raises(ScoringError, match="TRL 1.6"):
            ask({}, **call)


def test_no_score_is_none(serve: Serve, ask: Ask) -> None:
    scores = NOT_SCORED
    serve(lambda _: reply({"model": "toy@7", "format": "chat", "results": [scores]}))
    assert ask({}, prompts=["p", "p"], completions=["a", "b"]) == [None, 1.5]


def test_the_mode_is_a_setting_of_the_environment_or_of_the_call(
    serve: Serve, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.setenv("ASSAY_REWARD", "contrastive")
    monkeypatch.setenv("ASSAY_BASELINE_POLICY", "sft")
    call = {"prompts": ["p"], "completions": ["abc"]}
    assert ask({}, **call) == [2.0]  # the scripted baseline is 1
    assert ask({"reward": "lcb", "lcb_k": 2.0}, **call) == [3.0]
    contrastive, lcb = server.requests
    assert (contrastive.path, contrastive.body["policy"]) == ("/v1/contrastive", "sft")
    assert (lcb.path, lcb.body["aggregate"], lcb.body["lcb_k"]) == ("/v1/score", "lcb", 2.0)


def test_version_and_std_are_logged(serve: Serve, ask: Ask) -> None:
    serve()
    metrics: list[tuple[str, float]] = []
    columns: list[tuple[str, list[float | None]]] = []
    ask(
        {},
        prompts=["p", "p"],
        completions=["a", "b"],
        log_metric=lambda *logged: metrics.append(logged),
        log_extra=lambda *logged: columns.append(logged),
    )
    assert metrics == [("assay/version", 7.0), ("assay/std", 0.5)]
    assert columns == [("assay_std", [0.5, 0.5])]


def test_with_a_policy_named_completions_become_samples(serve: Serve, ask: Ask) -> None:
    server = serve()
    call = {"prompts": ["p", "p"], "completions": ["a", "b"], "trainer_state": State(12)}
    assert ask({"samples_policy": "grpo"}, **call) == [1.0, 1.0]
    (item,) = server.requests[1].body["items"]
    expected = {"prompt": "p", "completions": ["a", "b"], "policy": "grpo", "step": 12}
    assert {key: value for key, value in item.items() if value is not None} == expected


def test_samples_that_cannot_be_stored_cost_no_step(
    serve: Serve, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    def no_redis(request: Received) -> Answer:
        if request.path == "/v1/samples":
            return problem(422, "invalid-input", "policy is reserved")
        return reply(
            {
                "model": "toy@7",
                "format": "chat",
                "results": [{"scores": [1.0], "std": None, "tokens": [1], "truncated": [False]}],
            }
        )

    serve(no_redis)
    assert ask({"samples_policy": "x"}, prompts=["p"], completions=["a"]) == [1.0]
    assert "samples not posted" in caplog.text


def test_a_failure_is_raised_with_the_remedy(serve: Serve, ask: Ask) -> None:
    call = {"prompts": ["p"], "completions": ["a"]}
    serve(lambda _: problem(401, "unauthorized", "no key was sent"))
    with pytest.raises(UnauthorizedError, match="no key was sent: set ASSAY_KEY"):
        ask({}, **call)
    serve(lambda _: problem(422, "invalid-input", "1 of 1 groups have no baseline"))
    with pytest.raises(InvalidInputError, match=r"no baseline: store some with .*put_baselines"):
        ask({"reward": "contrastive"}, **call)
    with pytest.raises(ServerUnreachableError, match="set ASSAY_URL"):
        ask({"url": "http://127.0.0.1:9", "timeout_s": 60.0, "retries": 0}, **call)


@pytest.mark.parametrize(
    ("settings", "names"),
    [({"reward": "best"}, "reward"), ({"lcb_k": -1}, "lcb_k"), ({"lcbk": 1}, "lcbk")],
)
def test_a_wrong_setting_is_refused_at_once(settings: dict[str, Any], names: str) -> None:
    with pytest.raises(InvalidInputError, match=names):
        AssayReward(**settings)


@pytest.mark.parametrize("bad", [7, None, [], {"role": "assistant"}])
def test_a_completion_of_a_wrong_type_is_refused_with_its_place(
    serve: Serve, ask: Ask, bad: object
) -> None:
    serve()
    with pytest.raises(InvalidInputError, match=r"groups\[0\]\.completions\[1\]"):
        ask({}, prompts=["p", "p"], completions=["a", bad])


def test_nothing_asked_is_nothing_answered(serve: Serve, ask: Ask) -> None:
    assert ask({}, prompts=[], completions=[]) == []
    assert serve().requests == []


def test_a_copy_in_another_process_asks_the_same(serve: Serve) -> None:
    server = serve()
    reward = AssayReward(key="secret")
    assert reward(["p"], ["abc"]) == [3.0]
    copy = pickle.loads(pickle.dumps(reward))  # noqa: S301 - made a line above
    assert copy(["p"], ["abc"]) == [3.0]
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer secret"}
    for each in (reward, copy):
        each.close()


def test_one_connection_serves_many_calls(serve: Serve) -> None:
    server = serve()
    reward = AssayReward()
    ports = set()
    accepted = server._http.get_request

    def counted() -> Any:
        connection, address = accepted()
        ports.add(address)
        return connection, address

    server._http.get_request = counted  # type: ignore[method-assign]
    for _ in range(5):
        reward(["p"], ["abc"])
    reward.close()
    assert len(ports) == 1
