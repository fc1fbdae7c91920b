"""What verl, slime, verifiers and Tinker hand over, without them. The real ones: tests/clients."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from assay.errors import AssayError, InvalidInputError, ScoringError
from assay.integrations import openrlhf, slime, verl
from assay.integrations.rewarding import Rewarder
from assay.integrations.settings import RewardSettings
from assay.integrations.tinker import AssayPreferenceModel
from scripted_server import Answer, Received, ScriptedServer, length_scores, problem, reply

Serve = Callable[..., ScriptedServer]
Result = TypeVar("Result")
QUESTION = [{"role": "user", "content": "2 + 2?"}]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Modules keep their connections; these are to servers of one test."""
    yield
    for made in (verl._async_rewarder, verl._rewarder, slime._rewarder, openrlhf._rewarder):
        made.cache_clear()


def run(call: Callable[[], Awaitable[Result]], *close: Any) -> Result:
    async def closing() -> Result:
        try:
            return await call()
        finally:
            for each in close:
                await each().aclose()

    return asyncio.run(closing())


def no_score() -> Any:
    group = {"scores": [None], "std": None, "tokens": [1], "truncated": [False]}
    return reply({"model": "toy@7", "format": "chat", "results": [group]})


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("key", ["raw_prompt", "prompt", "question"])
def test_verl_gets_a_dict_of_numbers(serve: Serve, sync: bool, key: str) -> None:
    server = serve()
    given = ("gsm8k", "It is 4.", "4", {key: QUESTION, "index": 31, "num_turns": None})
    if sync:
        result = verl.compute_score_sync(*given)
        verl._rewarder().close()
    else:
        result = run(lambda: verl.compute_score(*given), verl._async_rewarder)
    assert result == {
        "score": 8.0,
        "assay_score": 8.0,
        "assay_std": 0.5,
        "assay_version": 7.0,
    }
    assert server.requests[0].body["groups"] == [
        {"prompt": QUESTION, "completions": ["It is 4."], "labels": ["4"]}
    ]


def test_verls_reward_kwargs_are_settings(serve: Serve) -> None:
    server = serve()
    result = verl.compute_score_sync(
        data_source="d",
        solution_str="abc",
        ground_truth=None,
        extra_info={"text": "p", "index": 3, "min_global_steps": 9},
        prompt_key="text",
        reward_router_address="unused",
        reward="lcb",
        samples_policy="dapo",
    )
    verl._rewarder(reward="lcb", samples_policy="dapo").close()
    assert result["score"] == 3.0
    scored, stored = server.requests
    assert scored.body["aggregate"] == "lcb"
    assert stored.body["items"] == [
        {"prompt": "p", "completions": ["abc"], "policy": "dapo", "step": 9, "group": "d/3"}
    ]


def test_verl_without_a_prompt_is_told_where_to_put_it(serve: Serve) -> None:
    serve()
    with pytest.raises(InvalidInputError, match="raw_prompt.*prompt_key"):
        verl.compute_score_sync("d", "abc", None, None)
    with pytest.raises(InvalidInputError, match="text"):
        verl.compute_score_sync("d", "abc", None, {"prompt": "p"}, prompt_key="text")


def test_where_there_is_no_word_for_no_score_it_is_an_error(serve: Serve) -> None:
    serve(lambda _: no_score())
    with pytest.raises(ScoringError, match="components"):
        verl.compute_score_sync("d", "abc", None, {"prompt": "p"})
    verl._rewarder().close()
    with pytest.raises(ScoringError):
        run(lambda: slime.reward(Args(), Sample()), slime._rewarder)


@dataclass
class Args:
    reward_key: str | None = None


@dataclass
class Status:
    name: str = "COMPLETED"


@dataclass
class Sample:
    """The fields that slime's `Sample` has under these names."""

    prompt: Any = "p"
    response: str = "abc"
    label: Any = None
    status: Status = field(default_factory=Status)
    group_index: int | None = None


def test_slime_gets_numbers_for_one_sample_or_a_group(serve: Serve) -> None:
    server = serve()
    cut = Sample(QUESTION, "abcd", label="4", status=Status("TRUNCATED"))

    async def both() -> Any:
        return await slime.reward(Args(), Sample()), await slime.reward(Args(), [cut, Sample()])

    assert run(both, slime._rewarder) == (3.0, [4.0, 3.0])
    one, group = (request.body["groups"] for request in server.requests)
    assert one == [{"prompt": "p", "completions": ["abc"], "finished": [True]}]
    assert group[0] == {
        "prompt": QUESTION,
        "completions": ["abcd"],
        "labels": ["4"],
        "finished": [False],
    }


def test_slimes_reward_key_and_group_are_used(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.setenv("ASSAY_SAMPLES_POLICY", "grpo")
    value = run(lambda: slime.reward(Args("score"), Sample(group_index=5)), slime._rewarder)
    assert value == {"score": 3.0, "assay_score": 3.0, "assay_std": 0.5, "assay_version": 7.0}
    assert server.requests[1].body["items"][0]["group"] == "5"


@dataclass
class Comparison:
    prompt_conversation: Any
    completion_A: Any  # noqa: N815 - the cookbook's names
    completion_B: Any  # noqa: N815


@pytest.mark.parametrize(("probability", "preference"), [(0.75, 0.5), (0.0, -1.0), (0.5, 0.0)])
def test_tinkers_preference_is_that_of_b_over_a(
    serve: Serve, probability: float, preference: float
) -> None:
    pair = {"mean": 1.0, "std": None, "votes": 1, "members": 1, "quantile": None, "action": None}
    results = [{**pair, "probability": probability}]
    server = serve(lambda _: reply({"model": "toy@7", "results": results}))
    a, b = ([{"role": "assistant", "content": text}] for text in "AB")
    model = AssayPreferenceModel()
    asked = Comparison(QUESTION, a, b)
    assert run(lambda: model(asked), lambda: model) == preference
    assert server.requests[0].body["pairs"] == [{"prompt": QUESTION, "chosen": b, "rejected": a}]


def test_errors_reach_the_trainer(serve: Serve) -> None:
    serve(lambda _: reply({"model": "toy@7", "format": "chat", "results": []}))
    with pytest.raises(AssayError, match="0 results"):
        verl.compute_score_sync("d", "abc", None, {"prompt": "p"})
    verl._rewarder().close()


def test_a_prompt_in_slimes_chat_template_is_read_as_messages(serve: Serve) -> None:
    server = serve()
    text = "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    run(lambda: slime.reward(Args(), Sample(text, "It is 4.<|im_end|>")), slime._rewarder)
    assert server.requests[0].body["groups"] == [
        {"prompt": QUESTION, "completions": ["It is 4."], "finished": [True]}
    ]


def test_openrlhfs_lists_have_one_entry_per_query(serve: Serve) -> None:
    """The version's card is gone, as after two promotions: T is 1."""

    def script(request: Received) -> Answer:
        gone = problem(404, "not-found")
        return gone if request.path.startswith("/v1/models/") else length_scores(request)

    server = serve(script)
    text = "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    given = [f"{text}It is 4.<|im_end|>", "2 + 2 = 4"], [text, "2 + 2 = "], ["4", None]
    result = openrlhf.reward_func(*given)
    openrlhf._rewarder().close()
    assert result == {
        "rewards": [8.0, 1.0],
        "scores": [pytest.approx(1 / (1 + math.exp(-8))), pytest.approx(1 / (1 + math.exp(-1)))],
        "extra_logs": {
            "assay_score": [8.0, 1.0],
            "assay_std": [0.5, 0.5],
            "assay_version": [7.0, 7.0],
        },
    }
    first, second = (r.body["groups"][0] for r in server.requests if r.path == "/v1/score")
    assert (first["prompt"], first["completions"], first["labels"]) == (
        QUESTION,
        ["It is 4."],
        ["4"],
    )
    assert (second["prompt"], second["completions"]) == ("2 + 2 = ", ["4"])
    assert openrlhf.reward_func([], [], []) == {"rewards": [], "scores": [], "extra_logs": {}}


def test_a_version_that_is_gone_since_it_answered_has_the_temperature_one(serve: Serve) -> None:
    serve(lambda request: problem(409, "conflict", "not resident"))
    rewarder = Rewarder(RewardSettings(retries=0))
    assert rewarder.temperature("rm@7") == 1.0
    rewarder.close()
