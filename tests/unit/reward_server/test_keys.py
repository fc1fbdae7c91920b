from __future__ import annotations

import re

import pytest

from assay.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from reward_server.keys import Keyring, parse_keys


def test_no_keys_let_everyone_in() -> None:
    parse_keys("").admit(None, "admin")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic one", "Bearer other"])
def test_a_missing_or_wrong_key_is_unauthorized(header: str | None) -> None:
    with pytest.raises(UnauthorizedError):
        parse_keys("one").admit(header, None)


def test_scopes_are_kept_apart() -> None:
    ring = parse_keys("reader:score, writer:samples+score, root")
    ring.admit("Bearer reader", "score")
    ring.admit("bearer writer", "samples")
    ring.admit("Bearer root", "admin")
    ring.admit("Bearer reader", None)
    with pytest.raises(ForbiddenError):
        ring.admit("Bearer reader", "samples")


def test_a_rate_lets_a_burst_through_and_then_says_when_to_come_back() -> None:
    now_s = 100.0
    ring = Keyring(parse_keys("one:score:60").keys, clock=lambda: now_s)
    for _ in range(10):  # ten seconds' worth of one a second
        ring.admit("Bearer one", "score")
    with pytest.raises(RateLimitedError) as caught:
        ring.admit("Bearer one", "score")
    assert caught.value.retry_after_s == pytest.approx(1.0)
    now_s += 1.0
    ring.admit("Bearer one", "score")


@pytest.mark.parametrize("text", ["secret:read", "secret:score:often", "secret:score:0", ":score"])
def test_an_entry_that_cannot_be_read_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError, match="key 1") as caught:
        parse_keys(text)
    assert not re.search("secret", str(caught.value))


def test_a_key_is_not_kept_in_clear() -> None:
    assert "secret" not in repr(parse_keys("secret"))
