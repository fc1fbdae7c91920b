"""OpenRLHF, slime and NeMo-Gym over a toy scorer: each gives what `POST /v1/score` gives."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import numpy as np
import pytest

from assay.errors import StartupError
from reward_server.app import create_app
from reward_server.composite.plan import Parts, Plan, RuleSpec, Weighing
from toy import ToyScorer, serving, toy_scores, toy_settings

pytestmark = pytest.mark.anyio

PROMPT, ANSWER = "What?", " Four."
QUERY = {"query": [PROMPT + ANSWER], "prompts": [PROMPT], "labels": [None]}
SAMPLE = {"prompt": PROMPT, "response": ANSWER, "label": None}
ROW: dict[str, Any] = {
    "responses_create_params": {"input": PROMPT, "temperature": 0.5},
    "response": {
        "id": "r",
        "output": [
            {"type": "reasoning", "id": "t", "summary": [{"type": "summary_text", "text": "Hm"}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": ANSWER, "annotations": []}],
            },
        ],
    },
    "difficulty": {"level": [1, None]},
}
BODIES = [("/get_reward", QUERY), ("/rm", SAMPLE), ("/verify", ROW)]

MEMBERS = np.array(toy_scores((PROMPT + ANSWER).encode(), 3))


def reward_of(reply: httpx.Response) -> float:
    """Where each system's client looks for it."""
    assert reply.status_code == 200, reply.text
    body = reply.json()
    if isinstance(body, dict):
        body = body["reward"] if "reward" in body else body["rewards"][0]
    return float(body)


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_the_reward_is_that_of_the_native_route(path: str, body: dict[str, Any]) -> None:
    group = {"prompt": PROMPT, "completions": [ANSWER]}
    async with serving() as http:
        native = (await http.post("/v1/score", json={"groups": [group]})).json()["results"][0]
        reply = await http.post(path, json=body)
        by_query = await http.post(path, json=body, params={"reward": "lcb", "lcb_k": 2})
        by_path = await http.post(f"/m/toy@1/q/reward=lcb&lcb_k=2{path}", json=body)
    assert reward_of(reply) == pytest.approx(native["scores"][0], abs=1e-9)
    assert reply.headers["x-assay-model"] == "toy@1"
    expected = MEMBERS.mean() - 2 * MEMBERS.std()
    assert reward_of(by_query) == reward_of(by_path) == pytest.approx(expected)


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_the_setting_chooses_the_reward_and_the_query_overrides_it(
    path: str, body: dict[str, Any]
) -> None:
    async with serving(toy_settings(reward="lcb")) as http:
        by_setting = reward_of(await http.post(path, json=body))
        by_query = reward_of(await http.post(path, json=body, params={"reward": "score"}))
    assert by_setting == pytest.approx(MEMBERS.mean() - MEMBERS.std())
    assert by_query == pytest.approx(MEMBERS.mean())


async def test_openrlhf_gets_std_and_version_as_numbers() -> None:
    async with serving() as http:
        body = {"query": ["What? Four.", "Why? No.", "?"], "prompts": ["What?", "Why?", "?"]}
        reply = (await http.post("/get_reward", json=body)).json()
    scores = [np.array(toy_scores(query.encode(), 3)) for query in body["query"]]
    np.testing.assert_allclose(reply["rewards"], [each.mean() for each in scores])
    # The toy's T is 2.
    np.testing.assert_allclose(reply["scores"], [1 / (1 + np.exp(-s.mean() / 2)) for s in scores])
    assert reply["extra_logs"] == {
        "assay_score": reply["rewards"],
        "assay_std": [pytest.approx(each.std()) for each in scores],
        "assay_version": [1.0] * 3,
        "assay_truncated": [0.0] * 3,
    }


async def test_openrlhf_with_nothing_to_score() -> None:
    async with serving() as http:
        reply = await http.post("/get_reward", json={"query": [], "prompts": [], "labels": []})
    assert (reply.status_code, reply.json()["rewards"]) == (200, [])


async def test_slime_gets_a_bare_number_or_an_object() -> None:
    async with serving() as http:
        number = await http.post("/rm", json=SAMPLE)
        detailed = await http.post(
            "/rm?reply=object", json={**SAMPLE, "prompt": [{"role": "user", "content": PROMPT}]}
        )
        templated = await http.post(
            "/rm",
            json={
                **SAMPLE,
                "prompt": f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n",
                "response": f"{ANSWER}<|im_end|>",
            },
        )
    assert float(number.text) == pytest.approx(MEMBERS.mean())
    as_messages = np.array(toy_scores(f"\n\nHuman: {PROMPT}\n\nAssistant:{ANSWER}".encode(), 3))
    assert detailed.json() == {
        "reward": pytest.approx(as_messages.mean()),
        "score": pytest.approx(as_messages.mean()),
        "std": pytest.approx(as_messages.std()),
        "contrastive": None,
        "version": 1,
        "truncated": False,
    }
    assert float(templated.text) == pytest.approx(as_messages.mean())


async def test_nemo_gym_gets_its_row_back_with_parts_that_sum() -> None:
    async with serving() as http:
        plain = (await http.post("/verify", json=ROW)).json()
        lower = (await http.post("/verify?reward=lcb", json=ROW)).json()
        session = await http.post("/seed_session", json=ROW)
    assert {name: plain[name] for name in ROW} == ROW
    assert plain["reward_components"] == {"score": plain["reward"]}
    assert plain["assay_std"] == pytest.approx(MEMBERS.std())
    assert (plain["assay_version"], plain["assay_truncated"]) == (1, 0)
    assert sum(lower["reward_components"].values()) == pytest.approx(lower["reward"], abs=1e-12)
    assert lower["reward_components"]["uncertainty"] == pytest.approx(-MEMBERS.std())
    assert session.json() == {}


async def test_nemo_gym_messages_and_tool_calls_are_read() -> None:
    scorer = ToyScorer()
    params = {
        "instructions": "S",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "U"}]}],
    }
    output = [
        {"type": "function_call", "call_id": "1", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "T"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "A"}]},
    ]
    body = {"responses_create_params": params, "response": {"output": output}}
    async with serving(scorer=scorer) as http:
        scorer.batches.clear()
        reply = await http.post("/verify", json=body)
    assert reply.status_code == 200, reply.text
    ((text,),) = scorer.batches
    assert bytes(text.ids).decode() == "\n\nS\n\nHuman: U\n\nAssistant:\nT\nA"


async def test_nemo_gym_marks_a_row_without_a_score() -> None:
    """By a rule, which gives none without a label; verifiers asks for an error instead."""
    plan = Plan(
        served=Weighing("toy", 1.0, "none"),
        companions=(),
        rules=(RuleSpec("exact_match", "exact_match", 5.0, {}),),
    )
    app = create_app(toy_settings(), ToyScorer(), parts=Parts(plan, {}))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://toy") as http,
    ):
        marked = (await http.post("/verify", json=ROW)).json()
        refused = await http.post("/q/no_score=error/verify", json=ROW)
        slime = await http.post("/rm", json=SAMPLE)
        judged = [
            (await http.post("/verify", json={**ROW, name: ANSWER})).json()
            for name in ("label", "ground_truth", "expected_answer")
        ]
        stale = {"label": None, "_ng_failure_class": "judge_failed", "expected_answer": ANSWER}
        again = (await http.post("/verify", json={**ROW, **stale})).json()
    assert again["reward"] == judged[0]["reward"]
    assert "_ng_failure_class" not in again
    assert marked == {**ROW, "reward": 0.0, "_ng_failure_class": "judge_failed"}
    assert (refused.status_code, slime.status_code) == (503, 503)
    parts = {"toy": pytest.approx(MEMBERS.mean()), "exact_match": 5.0}
    for row in judged:
        assert row["reward_components"] == parts
        assert row["reward"] == pytest.approx(MEMBERS.mean() + 5.0)


WRONG = [
    ("/get_reward", {}, "query"),
    ("/get_reward", {"query": "text"}, "query"),
    ("/get_reward", {"query": [3]}, "query[0]"),
    ("/get_reward", {"query": ["a", "b"], "prompts": ["a"]}, "body"),
    ("/get_reward", {"query": ["a"], "labels": [1, 2]}, "body"),
    ("/get_reward", {"query": ["a"], "qeury": []}, "qeury"),
    ("/get_reward", {"query": ["a", ""]}, "query[1]"),
    ("/rm", {"prompt": "p"}, "response"),
    ("/rm", {"prompt": [], "response": "r"}, "prompt"),
    ("/rm", {"prompt": "p", "response": None}, "response"),
    ("/verify", {"response": ROW["response"]}, "responses_create_params"),
    ("/verify", {**ROW, "response": {"output": 3}}, "response.output"),
    (
        "/verify",
        {**ROW, "response": {"output": [{"type": "web_search_call"}]}},
        "response.output[0].type",
    ),
]


@pytest.mark.parametrize(("path", "body", "field"), WRONG)
async def test_a_wrong_field_is_named(path: str, body: dict[str, Any], field: str) -> None:
    async with serving() as http:
        reply = await http.post(path, json=body)
    assert reply.status_code == 422, reply.text
    assert field in [error["path"] for error in reply.json()["errors"]]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_bad_requests_are_refused_by_name(path: str, body: dict[str, Any]) -> None:
    json_type = {"Content-Type": "application/json"}
    async with serving(toy_settings(max_body_bytes=4096)) as http:
        replies = {
            "not JSON": await http.post(path, content=b'{"query": [', headers=json_type),
            "Latin-1": await http.post(
                path, content='{"query": ["é"]}'.encode("latin-1"), headers=json_type
            ),
            "NaN": await http.post(path, content=b'{"query": [NaN]}', headers=json_type),
            "large": await http.post(path, content=b" " * 5000, headers=json_type),
            "typo": await http.post(f"{path}?rewrad=lcb", json=body),
            "no such reward": await http.post(f"{path}?reward=best", json=body),
            "infinite": await http.post(f"{path}?lcb_k=inf", json=body),
            "other model": await http.post(f"/m/other{path}", json=body),
            "no such version": await http.post(f"/m/toy@9{path}", json=body),
            "two versions": await http.post(f"/m/toy@9{path}?model=toy@1", json=body),
            "no baselines": await http.post(f"{path}?reward=contrastive", json=body),
        }
    assert {name: reply.status_code for name, reply in replies.items()} == {
        "not JSON": 400,
        "Latin-1": 400,
        "NaN": 400,
        "large": 413,
        "typo": 422,
        "no such reward": 422,
        "infinite": 422,
        "other model": 404,
        "no such version": 503,
        "two versions": 400,
        "no baselines": 503,
    }
    for reply in replies.values():
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json()["status"] == reply.status_code


async def test_a_number_that_cannot_be_echoed_is_refused() -> None:
    text = '{"responses_create_params": {"input": "p"}, "response": {"output": []}, "x": 1e999}'
    async with serving() as http:
        reply = await http.post("/verify", content=text)
    assert reply.status_code == 422


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_one_member_cannot_tell_a_lower_bound(path: str, body: dict[str, Any]) -> None:
    async with serving(scorer=ToyScorer(members=1)) as http:
        plain = await http.post(path, json=body)
        lower = await http.post(f"{path}?reward=lcb", json=body)
    assert reward_of(plain) == pytest.approx(toy_scores((PROMPT + ANSWER).encode(), 1)[0])
    assert lower.status_code == 422


def test_a_server_that_could_give_no_lower_bound_is_not_started() -> None:
    with pytest.raises(StartupError, match="ensemble"):
        create_app(toy_settings(reward="lcb"), ToyScorer(members=1))


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_a_score_that_is_not_finite_is_an_error(path: str, body: dict[str, Any]) -> None:
    broken = ToyScorer()
    async with serving(scorer=broken) as http:
        broken.score = lambda batch: np.full((len(batch), 3), np.nan)  # type: ignore[method-assign]
        reply = await http.post(path, json=body)
    assert reply.status_code == 500


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_keys_hold_and_come_in_the_path_too(path: str, body: dict[str, Any]) -> None:
    bearer = {"Authorization": "Bearer EMPTY"}  # what clients send that were given no key
    async with serving(toy_settings(keys="reader:score, writer:samples")) as http:
        statuses = [
            (await http.post(each, json=body, headers=headers)).status_code
            for each, headers in (
                (path, {}),
                (path, bearer),
                (f"/k/nobody{path}", {}),
                (f"/k/writer{path}", {}),
                (f"/k/reader{path}", bearer),
                (f"/k/reader/m/toy@1{path}", {}),
                (f"/m/toy/k/reader{path}", {}),
            )
        ]
        metrics = (await http.get("/k/reader/metrics")).text
    assert statuses == [401, 401, 401, 403, 200, 200, 200]
    assert path in metrics
    assert not any(key in metrics for key in ("/k/", "nobody", "writer"))


async def test_a_key_over_its_rate_waits_and_then_gets_503() -> None:
    settings = toy_settings(keys="quick:score:600, slow:score:6", compat_wait_s=1.0)
    async with serving(settings) as http:
        quick = await asyncio.gather(
            *(http.post("/k/quick/rm", json=SAMPLE) for _ in range(102))  # 100 at once, 10 a second
        )
        slow = [await http.post("/k/slow/rm", json=SAMPLE) for _ in range(2)]
    assert {reply.status_code for reply in quick} == {200}
    assert [reply.status_code for reply in slow] == [200, 503]
    assert int(slow[1].headers["retry-after"]) >= 1


async def test_a_full_queue_is_waited_for() -> None:
    scorer, gate = ToyScorer(), threading.Event()
    settings = toy_settings(max_queue_texts=1, max_request_texts=1, compat_wait_s=20)
    async with serving(settings, scorer) as http:
        scorer.before = lambda _: None if gate.wait(20) else None
        sending = [
            asyncio.create_task(http.post("/rm", json={**SAMPLE, "response": str(i)}))
            for i in range(6)
        ]
        await asyncio.wait(sending, timeout=0.2)
        gate.set()
        replies = await asyncio.gather(*sending)
    assert [reply.status_code for reply in replies] == [200] * 6


async def test_a_queue_that_stays_full_is_503() -> None:
    scorer, gate = ToyScorer(), threading.Event()
    settings = toy_settings(max_queue_texts=1, max_request_texts=1, compat_wait_s=0.1)
    async with serving(settings, scorer) as http:
        scorer.before = lambda _: None if gate.wait(20) else None
        sending = [
            asyncio.create_task(http.post("/rm", json={**SAMPLE, "response": str(i)}))
            for i in range(6)
        ]
        done, _ = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        gate.set()
        await asyncio.gather(*sending)
    refused = done.pop().result()
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_a_draining_server_refuses_new_work(path: str, body: dict[str, Any]) -> None:
    app = create_app(toy_settings(), ToyScorer())
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://toy") as http,
    ):
        await app.state.runtime.drain(1.0)
        reply = await http.post(path, json=body)
    assert reply.status_code == 503


@pytest.mark.parametrize("prefix", ["", "/m/toy@1", "/k/SECRET/m/toy@1"])
async def test_a_slash_at_the_end_leads_nowhere_else(prefix: str) -> None:
    async with serving() as http:
        reply = await http.post(f"{prefix}/get_reward/", json=QUERY)
    assert reply.status_code == 404
