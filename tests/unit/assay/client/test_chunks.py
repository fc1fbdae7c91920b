"""Calls that travel as several requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from assay.errors import AssayError, ConflictError, InvalidInputError
from scripted_server import Answer, Received, length_scores, problem, reply

Make = Callable[..., Any]


def groups_of(*sizes: int) -> list[dict[str, Any]]:
    """Groups whose completions have lengths 1, 2, 3 ... through the whole call."""
    lengths = iter(range(1, 10_000))
    return [
        {"prompt": f"p{at}", "completions": ["x" * next(lengths) for _ in range(size)]}
        for at, size in enumerate(sizes)
    ]


def sizes(request: Received) -> list[int]:
    return [len(group["completions"]) for group in request.body["groups"]]


def test_groups_stay_whole_and_results_in_order(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    client = make_client(url=server.url, texts_per_request=4)
    response = client.score_groups(groups_of(2, 2, 3, 2, 4))
    assert sorted(map(sizes, server.requests)) == [[2], [2, 2], [3], [4]]
    assert [len(result.scores) for result in response.results] == [2, 2, 3, 2, 4]
    assert [score for result in response.results for score in result.scores] == list(range(1, 14))


def test_a_group_over_the_limit_is_cut_for_score_alone(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    client = make_client(url=server.url, texts_per_request=2)
    response = client.score_groups(groups_of(1, 5, 1))
    assert [result.scores for result in response.results] == [[1], [2, 3, 4, 5, 6], [7]]
    assert all(sum(sizes(request)) <= 2 for request in server.requests)
    server.requests.clear()
    assert client.best_of_n_groups(groups_of(5)).results[0].index == 4
    client.contrastive_groups(groups_of(5), missing="leave_one_out")
    assert [sizes(request) for request in server.requests] == [[5], [5]]


def test_components_of_a_group_that_was_cut_are_put_together(
    make_client: Make, serve: Make
) -> None:
    def composite(request: Received) -> Answer:
        (group,) = request.body["groups"]
        sizes = [len(text) for text in group["completions"]]
        nulls: list[float | None] = [None if size == 2 else 1.0 for size in sizes]
        result = {
            "scores": nulls,
            "std": nulls,
            "components": {"rm": nulls, "length": sizes},
            "tokens": sizes,
            "truncated": [False] * len(sizes),
        }
        return reply({"model": "toy@7", "format": "chat", "results": [result]})

    client = make_client(url=serve(composite).url, texts_per_request=2)
    (result,) = client.score_groups(groups_of(3)).results
    assert result.components == {"rm": [1.0, None, 1.0], "length": [1, 2, 3]}
    assert result.scores == result.std == [1.0, None, 1.0]


def test_labels_and_finished_are_cut_with_their_group(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    client = make_client(url=server.url, texts_per_request=2)
    client.score("p", ["a", "b", "c"], labels=[1, 2, 3], finished=[True, True, False])
    cut = sorted(
        (r.body["groups"][0]["labels"], r.body["groups"][0]["finished"]) for r in server.requests
    )
    assert cut == [([1, 2], [True, True]), ([3], [False])]


def test_baselines_and_pairs_count_as_texts(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    client = make_client(url=server.url, texts_per_request=4)
    group = {"prompt": "p", "completions": ["a", "b"], "baselines": ["c", "d"]}
    client.contrastive_groups([group, group])
    client.strength_pairs([{"prompt": "p", "chosen": "a", "rejected": "b"}] * 3)
    assert sorted(len(r.body.get("groups") or r.body["pairs"]) for r in server.requests) == [
        1, 1, 1, 2
    ]  # fmt: skip


def test_the_first_answer_fixes_the_version_of_the_others(make_client: Make, serve: Make) -> None:
    server = serve(lambda request: length_scores(request, asked_version(request) or "toy@7"))
    make_client(url=server.url, texts_per_request=1).score_groups(groups_of(1, 1, 1))
    assert [asked_version(request) for request in server.requests] == [None, "toy@7", "toy@7"]


def asked_version(request: Received) -> str | None:
    version: str | None = request.headers.get("x-assay-model") or request.body.get("model")
    return version


def test_a_version_that_leaves_in_between_starts_the_call_over(
    make_client: Make, serve: Make
) -> None:
    lock, swapped = threading.Lock(), []

    def script(request: Received) -> Answer:
        with lock:
            if asked_version(request) == "toy@7":
                swapped.append(True)
                return problem(409, "conflict")
            return length_scores(request, "toy@8" if swapped else "toy@7")

    response = make_client(url=serve(script).url, texts_per_request=1).score_groups(
        groups_of(1, 1, 1)
    )
    assert response.model == "toy@8"
    assert [result.scores for result in response.results] == [[1], [2], [3]]


def test_versions_that_keep_leaving_end_in_a_conflict(make_client: Make, serve: Make) -> None:
    def script(request: Received) -> Answer:
        return problem(409, "conflict") if asked_version(request) else length_scores(request)

    server = serve(script)
    with pytest.raises(ConflictError):
        make_client(url=server.url, texts_per_request=1).score_groups(groups_of(1, 1))
    assert len(server.requests) == 4


@pytest.mark.parametrize("pin", ["toy@7", "Toy@7"])
def test_a_pin_goes_with_every_request_and_is_not_given_up(
    make_client: Make, serve: Make, pin: str
) -> None:
    server = serve(length_scores)
    client = make_client(url=server.url, model=pin, texts_per_request=1)
    client.score_groups(groups_of(1, 1))
    client.strength("p", "a", "b")
    client.strength("p", "a", "b", model="toy@7")
    assert {request.body["model"] for request in server.requests} <= {pin, "toy@7"}
    gone = serve(lambda _: problem(409, "conflict"))
    with pytest.raises(ConflictError):
        make_client(url=gone.url, model=pin, texts_per_request=1).score_groups(groups_of(1, 1))


def test_an_answer_by_another_version_is_refused(make_client: Make, serve: Make) -> None:
    server = serve(lambda request: length_scores(request, "toy@8"))
    with pytest.raises(AssayError, match="toy@8"):
        make_client(url=server.url).score("p", ["a"], model="toy@7")


def test_chunks_answered_by_two_versions_never_mix(make_client: Make, serve: Make) -> None:
    versions = iter(["toy@7", "toy@8"])
    server = serve(lambda request: length_scores(request, next(versions)))
    with pytest.raises(AssayError, match="toy@8"):
        make_client(url=server.url, texts_per_request=1).score_groups(groups_of(1, 1))


def test_too_few_results_are_refused(make_client: Make, serve: Make) -> None:
    server = serve(lambda _: reply({"model": "toy@7", "format": "chat", "results": []}))
    with pytest.raises(AssayError, match="results"):
        make_client(url=server.url).score_groups(groups_of(1))


def test_requests_at_the_same_time_are_bounded(make_client: Make, serve: Make) -> None:
    both = threading.Barrier(2, timeout=20)

    def script(request: Received) -> Answer:
        if len(server.requests) > 1:
            both.wait()
        return length_scores(request)

    server = serve(script)
    make_client(url=server.url, texts_per_request=1, connections=2).score_groups(
        groups_of(1, 1, 1, 1, 1)
    )
    assert server.busiest == 2


def test_error_paths_count_from_the_beginning_of_the_call(make_client: Make, serve: Make) -> None:
    def script(request: Received) -> Answer:
        if "x" * 4 in request.body["groups"][0]["completions"]:
            at = request.body["groups"][0]["completions"].index("x" * 4)
            path = f"groups[0].completions[{at}]"
            fields = [{"path": path, "message": "too long"}]
            return problem(422, "invalid-input", f"{path}: too long", errors=fields)
        return length_scores(request)

    client = make_client(url=serve(script).url, texts_per_request=2)
    with pytest.raises(InvalidInputError) as caught:
        client.score_groups(groups_of(1, 3))
    assert caught.value.fields == (("groups[1].completions[2]", "too long"),)
    assert str(caught.value) == "groups[1].completions[2]: too long"


def test_baselines_and_samples_are_sent_in_order_and_added_up(
    make_client: Make, serve: Make
) -> None:
    def script(request: Received) -> Answer:
        prompts = [item["prompt"] for item in request.body["items"]]
        if request.path == "/v1/samples":
            return reply({"accepted": len(prompts), "ids": prompts}, 202)
        return reply({"stored": len(prompts)})

    server = serve(script)
    client = make_client(url=server.url, texts_per_request=4)
    items = [{**group, "policy": "sft"} for group in groups_of(2, 2, 2, 2, 2)]
    assert client.put_baselines(items).stored == 5
    assert client.post_samples(items).ids == ["p0", "p1", "p2", "p3", "p4"]
    assert [len(request.body["items"]) for request in server.requests] == [2, 2, 1] * 2
    keys = [request.headers["idempotency-key"] for request in server.requests[3:]]
    assert len(set(keys)) == 3, "each request of a call has its own key"
