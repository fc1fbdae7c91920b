"""Retries, deadlines and errors, against a server that misbehaves."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from assay import errors
from assay.errors import AssayError, DeadlineExceededError, OverloadedError, ServerUnreachableError
from scripted_server import Answer, Received, length_scores, problem, reply

Make = Callable[..., Any]


def then_scores(*first: Answer) -> Callable[[Received], Answer]:
    """The given answers one after the other, then good ones."""
    answers = iter(first)

    def script(request: Received) -> Answer:
        return next(answers, None) or length_scores(request)

    return script


BUSY = problem(503, "overloaded", "the queue is full")
DROPPED = Answer(200, b'{"model": "toy@7", "resu', announced=5000)


def test_a_full_queue_is_tried_again_after_the_time_it_asks_for(
    make_client: Make, serve: Make
) -> None:
    busy = Answer(503, BUSY.body, {"Retry-After": "1"})
    server = serve(then_scores(busy))
    assert make_client(url=server.url).score("p", ["abc"]).scores == [3.0]
    first, second = (request.at_s for request in server.requests)
    assert second - first >= 1.0


@pytest.mark.parametrize(
    "bad", [BUSY, problem(500, "scoring-failed"), DROPPED, Answer(502, b"<html>")]
)
def test_what_may_pass_is_tried_again(make_client: Make, serve: Make, bad: Answer) -> None:
    server = serve(then_scores(bad))
    assert make_client(url=server.url).score("p", ["abc"]).scores == [3.0]
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "slug", "error"),
    [
        (400, "malformed-request", errors.MalformedRequestError),
        (401, "unauthorized", errors.UnauthorizedError),
        (403, "forbidden", errors.ForbiddenError),
        (404, "not-found", errors.NotFoundError),
        (413, "payload-too-large", errors.PayloadTooLargeError),
        (422, "invalid-input", errors.InvalidInputError),
        (429, "rate-limited", errors.RateLimitedError),
    ],
)
def test_what_will_not_pass_is_not_tried_again(
    make_client: Make, serve: Make, status: int, slug: str, error: type[AssayError]
) -> None:
    server = serve(lambda _: problem(status, slug, "why"))
    with pytest.raises(error, match="^why$"):
        make_client(url=server.url).score("p", ["a"])
    assert len(server.requests) == 1


def test_retries_end_with_the_servers_error(make_client: Make, serve: Make) -> None:
    server = serve(lambda _: BUSY)
    with pytest.raises(OverloadedError, match="the queue is full"):
        make_client(url=server.url, retries=1).score("p", ["a"])
    assert len(server.requests) == 2


def test_no_server_is_unreachable(make_client: Make, free_port: int) -> None:
    url = f"http://user:password@127.0.0.1:{free_port}"
    with pytest.raises(ServerUnreachableError, match=str(free_port)) as caught:
        make_client(url=url, retries=0).score("p", ["a"])
    assert "password" not in "".join(traceback.format_exception(caught.value))


def test_a_connection_that_always_breaks_is_unreachable(make_client: Make, serve: Make) -> None:
    with pytest.raises(ServerUnreachableError):
        make_client(url=serve(lambda _: DROPPED).url, retries=0).score("p", ["a"])


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>secret</html>"),
        Answer(200, b'{"model": "toy@7", "results": ["secret'),
        Answer(200, b"\xff\xfe"),
        Answer(200, b"not gzip", {"Content-Encoding": "gzip"}),
        Answer(307, b"secret", {"Location": "/elsewhere"}),
        reply({"model": "secret"}),
    ],
)
def test_an_answer_that_is_none_is_an_error_that_does_not_repeat_it(
    make_client: Make, serve: Make, answer: Answer
) -> None:
    server = serve(lambda _: answer)
    with pytest.raises(AssayError) as caught:
        make_client(url=server.url).score("p", ["a"])
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert len(server.requests) == 1


def test_a_status_without_problem_details_keeps_its_kind(make_client: Make, serve: Make) -> None:
    for status, error in ((401, errors.UnauthorizedError), (503, errors.UnavailableError)):
        server = serve(lambda _, status=status: Answer(status, b"<html>"))
        with pytest.raises(error, match=str(status)):
            make_client(url=server.url, retries=0).score("p", ["a"])


def test_a_slow_answer_exceeds_the_deadline(make_client: Make, serve: Make) -> None:
    def script(request: Received) -> Answer:
        server.hold.wait(20)
        return length_scores(request)

    server = serve(script)
    with pytest.raises(DeadlineExceededError, match=r"0\.2 s"):
        make_client(url=server.url, timeout_s=0.2).score("p", ["a"])
    server.hold.set()


def test_an_answer_that_trickles_exceeds_the_deadline(make_client: Make, serve: Make) -> None:
    server = serve(lambda _: Answer(200, b" " * 400, trickle_s=0.05))
    with pytest.raises(DeadlineExceededError):
        make_client(url=server.url, timeout_s=0.3).score("p", ["a"])
    server.hold.set()


@pytest.mark.parametrize(
    "header", ["60", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)]
)
def test_a_retry_that_would_come_too_late_is_not_waited_for(
    make_client: Make, serve: Make, header: str
) -> None:
    server = serve(lambda _: Answer(503, BUSY.body, {"Retry-After": header}))
    with pytest.raises(DeadlineExceededError, match="the queue is full"):
        make_client(url=server.url, timeout_s=5).score("p", ["a"])
    assert len(server.requests) == 1


def test_waiting_for_a_free_connection_counts_towards_the_deadline(
    make_client: Make, serve: Make
) -> None:
    def script(request: Received) -> Answer:
        server.hold.wait(20)
        return length_scores(request, "toy@7")

    server = serve(script)
    client = make_client(
        url=server.url, model="toy@7", connections=1, texts_per_request=1, timeout_s=0.3
    )
    with pytest.raises(DeadlineExceededError):
        client.score_groups([{"prompt": "p", "completions": ["a"]}] * 3)
    server.hold.set()


def test_one_failed_chunk_ends_the_call_at_once(make_client: Make, serve: Make) -> None:
    def script(request: Received) -> Answer:
        if request.body["groups"][0]["prompt"] == "bad":
            return problem(422, "invalid-input", "why")
        if request.body["groups"][0]["prompt"] == "slow":
            server.hold.wait(20)
        return length_scores(request)

    server = serve(script)
    client = make_client(url=server.url, texts_per_request=1, timeout_s=15.0)
    prompts = ("first", "slow", "bad")
    with pytest.raises(errors.InvalidInputError, match="why"):
        client.score_groups([{"prompt": prompt, "completions": ["a"]} for prompt in prompts])
    assert not server.hold.is_set()
    server.hold.set()


def test_samples_keep_their_key_over_retries_and_not_over_calls(
    make_client: Make, serve: Make
) -> None:
    answers = iter([BUSY, DROPPED])
    stored = reply({"accepted": 1, "ids": ["1-0"]}, 202)
    server = serve(lambda _: next(answers, stored))
    client = make_client(url=server.url)
    item = {"prompt": "p", "completions": ["a"], "policy": "ppo"}
    assert client.post_samples([item]).ids == ["1-0"]
    client.post_samples([item])
    client.post_samples([item], idempotency_key="step-3")
    client.post_samples([item], idempotency_key="step-3")
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert len(keys) == 6
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert keys[4] == keys[5] != keys[3]


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "\u00e9", "x" * 300])
def test_an_idempotency_key_that_fits_no_header_is_refused(make_client: Make, key: str) -> None:
    item = {"prompt": "p", "completions": ["a"], "policy": "ppo"}
    with pytest.raises(errors.InvalidInputError, match="idempotency"):
        make_client().post_samples([item], idempotency_key=key)
