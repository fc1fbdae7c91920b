"""The native routes of a composite: the toy, a model beside it, and rules; numbers by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from assay.errors import ModelLoadError
from assay.rewards.composite import Values
from reward_server.app import create_app
from reward_server.composite.plan import Companion, Parts, Plan, RuleSpec, Weighing
from toy import ToyScorer, toy_scores, toy_settings

BESIDE = ToyScorer(members=2)
PLAN = Plan(
    served=Weighing("toy", 2.0, "calibration"),
    companions=(Companion(Weighing("beside@3", 0.25, "none"), "", None),),
    rules=(
        RuleSpec("exact_match", "exact_match", 5.0, {}),
        RuleSpec("long", "length_penalty", 1.0, {"free": 0, "full": 10, "unit": "characters"}),
    ),
)


@pytest.fixture(scope="module")
def http() -> Iterator[TestClient]:
    parts = Parts(PLAN, {"beside@3": BESIDE})
    with TestClient(create_app(toy_settings(), ToyScorer(), parts=parts)) as client:
        yield client


def post(http: TestClient, path: str, **body: Any) -> Any:
    reply = http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def by_hand(completion: str, label: str) -> tuple[dict[str, float], Values]:
    """The parts, and the sum of each member of the toy; its T is 2."""
    own = 2.0 / 2.0 * np.array(toy_scores(f"p{completion}".encode(), 3))
    others = {
        "beside@3": 0.25 * float(np.mean(toy_scores(f"p{completion}".encode(), 2))),
        "exact_match": 5.0 * (completion == label),
        "long": -min(1.0, len(completion) / 10),
    }
    return {"toy": float(own.mean()), **others}, own + sum(others.values())


def test_components_are_weighted_and_sum_to_the_score(http: TestClient) -> None:
    group = {"prompt": "p", "completions": ["abc", "no"], "labels": ["abc", "abc"]}
    (result,) = (post(http, "/v1/score", groups=[group], members=True))["results"]
    for row, completion in enumerate(["abc", "no"]):
        parts, members = by_hand(completion, "abc")
        assert {name: v[row] for name, v in result["components"].items()} == pytest.approx(parts)
        assert result["members"][row] == pytest.approx(members.tolist())
        assert result["scores"][row] == pytest.approx(sum(parts.values()))
        assert result["std"][row] == pytest.approx(members.std())


@pytest.mark.parametrize("how", ["min", "lcb"])
def test_pessimistic_aggregates_are_those_of_the_sum(http: TestClient, how: str) -> None:
    group = {"prompt": "p", "completions": ["abc"], "labels": ["abc"]}
    (result,) = (post(http, "/v1/score", groups=[group], aggregate=how))["results"]
    _, members = by_hand("abc", "abc")
    expected = members.min() if how == "min" else members.mean() - members.std()
    assert result["scores"] == [pytest.approx(expected)]
    mean = sum(values[0] for values in result["components"].values())
    assert mean == pytest.approx(members.mean())


def test_a_text_without_a_score_is_null_and_the_others_are_not(http: TestClient) -> None:
    group = {"prompt": "p", "completions": ["abc", "no"], "labels": [None, "no"]}
    (result,) = (post(http, "/v1/score", groups=[group], members=True))["results"]
    (best,) = (post(http, "/v1/best-of-n", groups=[group]))["results"]
    none = {"prompt": "p", "completions": ["abc", "no"]}
    (nothing,) = (post(http, "/v1/best-of-n", groups=[none]))["results"]
    for name in ("scores", "std", "members"):
        assert result[name][0] is None
        assert result[name][1] is not None
    assert {values[0] for values in result["components"].values()} == {None}
    assert result["tokens"] == [4, 3]
    expected = by_hand("no", "no")[1].mean()
    assert best == {"index": 1, "scores": [None, pytest.approx(expected)]}
    assert nothing == {"index": None, "scores": [None, None]}


def test_contrastive_rewards_are_of_the_sum_and_baselines_get_the_prompts_label(
    http: TestClient,
) -> None:
    group = {"prompt": "p", "completions": ["abc", "no"], "labels": ["no", "no"]}
    body = {"groups": [{**group, "baselines": ["no", "yes"]}]}
    (result,) = (post(http, "/v1/contrastive", **body))["results"]
    baseline = np.mean([by_hand(text, "no")[1] for text in ("no", "yes")], axis=0)
    expected = [(by_hand(text, "no")[1] - baseline).mean() for text in ("abc", "no")]
    assert result["rewards"] == pytest.approx(expected)
    assert result["baseline"]["value"] == pytest.approx(baseline.mean())


def test_contrastive_rewards_leave_out_what_has_no_score(http: TestClient) -> None:
    three = {"prompt": "p", "completions": ["a", "bb", "ccc"], "labels": ["a", None, "a"]}
    body = {"groups": [three], "missing": "leave_one_out"}
    (own,) = (post(http, "/v1/contrastive", **body))["results"]
    unequal = {**three, "baselines": ["bb"]}  # labels differ, so that baselines have none
    (stored,) = (post(http, "/v1/contrastive", groups=[unequal]))["results"]
    first, last = by_hand("a", "a")[1].mean(), by_hand("ccc", "a")[1].mean()
    assert own["rewards"] == [pytest.approx(first - last), None, pytest.approx(last - first)]
    assert own["baseline"]["count"] == 1
    assert (stored["rewards"], stored["baseline"]) == ([None] * 3, None)
    assert stored["scores"] == [pytest.approx(first), None, pytest.approx(last)]


def test_strength_is_of_the_served_ensemble_alone(http: TestClient) -> None:
    pair = {"prompt": "p", "chosen": "z", "rejected": "aaaa"}
    (result,) = (post(http, "/v1/strength", pairs=[pair], members=True))["results"]
    chosen, rejected = (toy_scores(f"p{text}".encode(), 3) for text in ("z", "aaaa"))
    assert result["differences"] == pytest.approx(np.subtract(chosen, rejected).tolist())
    assert result["quantile"] is not None


def test_the_card_says_what_the_scores_are_made_of(http: TestClient) -> None:
    (note,) = http.get("/v1/models/toy").json()["assay"]["notes"]
    assert "2 x toy, 0.25 x beside@3, 5 x exact_match, 1 x long" in note


def test_a_version_that_was_never_calibrated_does_not_fit() -> None:
    parts = Parts(PLAN, {"beside@3": BESIDE})
    with pytest.raises(ModelLoadError, match="toy@1 is normalised by its calibration"):
        create_app(toy_settings(), ToyScorer(calibrated=False), parts=parts)


def test_the_same_text_with_another_label_has_another_score(http: TestClient) -> None:
    group = {"prompt": "p", "completions": ["a", "a"], "labels": ["a", "b"]}
    (result,) = (post(http, "/v1/score", groups=[group]))["results"]
    assert result["scores"][0] - result["scores"][1] == pytest.approx(5.0)


def test_a_text_that_one_part_does_not_take_is_named(http: TestClient) -> None:
    parts = [{"type": "image", "url": "x"}]
    group = {"prompt": "p", "completions": ["a", [{"role": "assistant", "content": parts}]]}
    reply = http.post("/v1/score", json={"groups": [group]})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["path"] == "groups[0].completions[1]"


def test_what_one_of_the_models_cuts_is_marked_as_truncated(http: TestClient) -> None:
    group = {"prompt": "p", "completions": ["a" * 70, "a"], "labels": ["", ""]}
    (result,) = post(http, "/v1/score", groups=[group])["results"]
    assert result["truncated"] == [True, False]


def test_labels_of_a_compatible_route_reach_the_rules(http: TestClient) -> None:
    body = {"query": ["pabc"], "prompts": ["p"], "labels": ["abc"]}
    reply = http.post("/get_reward", json=body).json()
    assert reply["rewards"] == [pytest.approx(by_hand("abc", "abc")[1].mean())]
    slime = http.post("/rm", json={"prompt": "p", "response": "abc", "label": "abc"}).json()
    assert slime == pytest.approx(reply["rewards"][0])


def test_no_score_on_a_compatible_route_is_an_error_and_never_a_number(http: TestClient) -> None:
    body = {"query": ["pabc"], "prompts": ["p"], "labels": [None]}
    assert http.post("/get_reward", json=body).status_code == 503


def test_token_ids_are_refused_where_others_have_to_read_the_text(http: TestClient) -> None:
    reply = http.post("/classify", json={"input_ids": [97, 98]})
    assert reply.status_code == 400
    assert "which read texts" in reply.text
