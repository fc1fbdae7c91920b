"""The native routes over a toy scorer, whose numbers are worked out by hand or anew in numpy."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from toy import ToyScorer, serving, toy_scores, toy_settings

pytestmark = pytest.mark.anyio


def by_hand(prompt: str, completion: str, members: int = 3) -> list[float]:
    return toy_scores((prompt + completion).encode(), members)


async def post(http: httpx.AsyncClient, path: str, body: object, **kwargs: Any) -> Any:
    reply = await http.post(path, json=body, **kwargs)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_score_gives_mean_std_and_members() -> None:
    groups = [{"prompt": "p", "completions": ["a", "bb"]}, {"prompt": "q", "completions": ["c"]}]
    async with serving() as http:
        reply = await post(http, "/v1/score", {"groups": groups, "members": True})
    assert (reply["model"], reply["format"]) == ("toy@1", "concat")
    for group, result in zip(groups, reply["results"], strict=True):
        members = np.array([by_hand(str(group["prompt"]), c) for c in group["completions"]])
        np.testing.assert_allclose(result["members"], members)
        np.testing.assert_allclose(result["scores"], members.mean(axis=1))
        np.testing.assert_allclose(result["std"], np.sqrt(members.var(axis=1)))
    assert reply["results"][0]["tokens"] == [2, 3]
    assert reply["results"][0]["truncated"] == [False, False]


@pytest.mark.parametrize("how", ["min", "lcb"])
async def test_pessimistic_aggregates(how: str) -> None:
    body = {"groups": [{"prompt": "p", "completions": ["a"]}], "aggregate": how, "lcb_k": 2.0}
    async with serving() as http:
        reply = await post(http, "/v1/score", body)
    members = np.array(by_hand("p", "a"))
    expected = members.min() if how == "min" else members.mean() - 2 * members.std()
    assert reply["results"][0]["scores"] == [pytest.approx(expected)]
    assert "members" not in reply["results"][0]


@pytest.mark.parametrize("scorer", [ToyScorer(members=1), ToyScorer(calibrated=False)])
@pytest.mark.parametrize("how", ["min", "lcb"])
async def test_a_model_that_cannot_tell_how_sure_it_is_says_so(scorer: ToyScorer, how: str) -> None:
    groups = [{"prompt": "p", "completions": ["a"]}]
    async with serving(scorer=scorer) as http:
        plain = await post(http, "/v1/score", {"groups": groups})
        refused = await http.post("/v1/score", json={"groups": groups, "aggregate": how})
    assert plain["results"][0]["std"] is None
    assert refused.status_code == 422


async def test_strength_of_a_pair_and_its_swap() -> None:
    pair = {"prompt": "p", "chosen": "z", "rejected": "a"}
    swap = {"prompt": "p", "chosen": "a", "rejected": "z"}
    async with serving() as http:
        reply = await post(http, "/v1/strength", {"pairs": [pair, swap], "members": True})
    one, other = reply["results"]
    # z is byte 122, a is byte 97: differences .25, .50, .75
    assert one["differences"] == [pytest.approx(0.25), pytest.approx(0.5), pytest.approx(0.75)]
    assert one["mean"] == pytest.approx(0.5)
    assert one["mean"] == -other["mean"]
    assert one["std"] == other["std"] == pytest.approx(np.std([0.25, 0.5, 0.75]))
    assert (one["votes"], other["votes"], one["members"]) == (3, 0, 3)
    sigmoid = 1 / (1 + np.exp(-np.array([0.25, 0.5, 0.75]) / 2.0))  # T = 2
    assert one["probability"] == pytest.approx(sigmoid.mean())
    assert one["quantile"] == pytest.approx(0.525)  # .5 on a grid from -10 to 10
    assert one["action"] == "keep"


async def test_strength_of_one_member_claims_nothing() -> None:
    pair = {"prompt": "p", "chosen": "z", "rejected": "a"}
    async with serving(scorer=ToyScorer(members=1)) as http:
        result = (await post(http, "/v1/strength", {"pairs": [pair]}))["results"][0]
    assert (result["std"], result["quantile"], result["action"]) == (None, None, None)
    assert result["mean"] == pytest.approx(0.25)


async def test_contrastive_rewards_of_the_baselines_average_to_zero() -> None:
    texts = ["a", "bcd", "xy"]
    group = {"prompt": "p", "completions": texts, "baselines": texts}
    async with serving() as http:
        result = (await post(http, "/v1/contrastive", {"groups": [group]}))["results"][0]
    assert np.mean(result["rewards"]) == pytest.approx(0.0, abs=1e-12)
    assert result["baseline"]["source"] == "inline"
    assert result["baseline"]["count"] == 3
    assert result["baseline"]["value"] == pytest.approx(np.mean(result["scores"]))


@pytest.mark.parametrize("shape", ["none", "sigmoid"])
@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("how", ["mean", "min", "lcb"])
async def test_each_member_subtracts_its_own_baseline(shape: str, statistic: str, how: str) -> None:
    completions, baselines = ["a", "zz"], ["b", "c", "dd"]
    body = {
        "groups": [{"prompt": "p", "completions": completions, "baselines": baselines}],
        "shape": shape,
        "statistic": statistic,
        "aggregate": how,
    }
    async with serving() as http:
        result = (await post(http, "/v1/contrastive", body))["results"][0]
    reduce = np.mean if statistic == "mean" else np.median
    for completion, reward in zip(completions, result["rewards"], strict=True):
        per_member = []
        for m in range(3):
            own = by_hand("p", completion)[m]
            others = [by_hand("p", b)[m] for b in baselines]
            value = own - reduce(others)
            if shape == "sigmoid":
                value = reduce([1 / (1 + np.exp(-(own - o))) for o in others])
            per_member.append(value)
        aggregates = {
            "mean": np.mean(per_member),
            "min": np.min(per_member),
            "lcb": np.mean(per_member) - np.std(per_member),
        }
        assert reward == pytest.approx(aggregates[how])


async def test_leave_one_out_never_counts_a_completion_into_its_own_baseline() -> None:
    completions = ["a", "bb", "cccc"]
    body = {"groups": [{"prompt": "p", "completions": completions}], "missing": "leave_one_out"}
    async with serving() as http:
        result = (await post(http, "/v1/contrastive", body))["results"][0]
        alone = await http.post(
            "/v1/contrastive",
            json={**body, "groups": [{"prompt": "p", "completions": ["a"]}]},
        )
    scores = [np.mean(by_hand("p", c)) for c in completions]
    expected = [s - np.mean(scores[:i] + scores[i + 1 :]) for i, s in enumerate(scores)]
    np.testing.assert_allclose(result["rewards"], expected)
    assert result["baseline"] == {
        "value": pytest.approx(np.mean(scores)),
        "std": pytest.approx(np.std(scores)),
        "count": 2,
        "source": "leave_one_out",
    }
    assert alone.status_code == 422


async def test_best_of_n_takes_the_first_of_equals() -> None:
    groups = [{"prompt": "p", "completions": ["a", "z", "b", "z"]}]
    async with serving() as http:
        result = (await post(http, "/v1/best-of-n", {"groups": groups}))["results"][0]
    assert result["index"] == 1
    assert len(result["scores"]) == 4


PIN_OK = ["toy", "toy@1", "TOY@1"]
GROUPS = {"groups": [{"prompt": "p", "completions": ["a"]}]}
PAIRS = {"pairs": [{"prompt": "p", "chosen": "a", "rejected": "b"}]}
CONTRAST = {"groups": [{"prompt": "p", "completions": ["a"], "baselines": ["b"]}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/score", GROUPS),
        ("/v1/strength", PAIRS),
        ("/v1/contrastive", CONTRAST),
        ("/v1/best-of-n", GROUPS),
    ],
)
@pytest.mark.parametrize(
    ("pin", "status"), [("toy@1", 200), ("toy", 200), ("toy@2", 409), ("other", 404), ("a b", 422)]
)
async def test_every_way_to_pin_a_version(
    path: str, body: dict[str, Any], pin: str, status: int
) -> None:
    async with serving() as http:
        replies = [
            await http.post(path, json={**body, "model": pin}),
            await http.post(path, json=body, headers={"X-Assay-Model": pin}),
            await http.post(path, json=body, params={"model": pin}),
            await http.post(f"/m/{pin}{path}", json=body),
        ]
    assert [reply.status_code for reply in replies] == [status] * 4
    assert {reply.headers["x-assay-model"] for reply in replies} == {"toy@1"}


async def test_models_are_listed_and_shown() -> None:
    async with serving() as http:
        listed = (await http.get("/v1/models")).json()
        shown = (await http.get("/v1/models/toy@1")).json()
        serving_one = (await http.get("/v1/models/toy")).json()
        missing = await http.get("/v1/models/toy@9")
        unknown = await http.get("/v1/models/other@1")
    assert listed["object"] == "list"
    assert listed["data"] == [shown] == [serving_one]
    assert shown["id"] == "toy@1"
    assert shown["assay"]["alias"] == ["serving"]
    assert (missing.status_code, unknown.status_code) == (409, 404)


async def test_metrics_count_requests_texts_and_errors_and_name_the_replica() -> None:
    async with serving() as http:
        await http.post("/v1/score", json=GROUPS)
        await http.post("/v1/score", json=GROUPS)
        await http.post("/v1/score", json={})
        text = (await http.get("/metrics")).text
    assert 'reward_server_requests_total{route="/v1/score",status="200"} 2.0' in text
    assert 'reward_server_errors_total{kind="invalid-input"} 1.0' in text
    assert 'reward_server_texts_total{outcome="scored"} 1.0' in text
    assert 'reward_server_texts_total{outcome="cached"} 1.0' in text
    assert 'reward_server_replica_info{model="toy@1"' in text


async def test_a_draining_server_finishes_and_refuses_new_work() -> None:
    from reward_server.app import create_app

    app = create_app(toy_settings(), ToyScorer())
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://toy") as http,
    ):
        assert (await http.get("/readyz")).status_code == 200
        assert await app.state.runtime.drain(1.0) == 0
        refused = await http.post("/v1/score", json=GROUPS)
        ready, alive = await http.get("/readyz"), await http.get("/healthz")
    assert (refused.status_code, ready.status_code, alive.status_code) == (503, 503, 200)
    assert int(refused.headers["retry-after"]) >= 1


async def test_replies_are_plain_json_without_nan() -> None:
    async with serving() as http:
        reply = await http.post(
            "/v1/score", json={"groups": [{"prompt": "p", "completions": ["\0"]}]}
        )
    assert reply.status_code == 500
    assert "NaN" not in reply.text
    assert json.loads(reply.text)["type"] == "urn:assay:problem:scoring-failed"
