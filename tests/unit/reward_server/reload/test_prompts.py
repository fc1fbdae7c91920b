from __future__ import annotations

from assay.schemas.text import Message
from reward_server.reload.prompts import PromptLog, prompt_keys


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def answered(log: PromptLog, prompt: str, version: int) -> int:
    split = log.begin([prompt], version)
    log.end([prompt])
    return split


def test_a_prompt_answered_by_two_versions_within_the_window_is_counted_once() -> None:
    clock = Clock()
    log = PromptLog(10, 0.5, clock)
    assert [answered(log, "p", 1), answered(log, "p", 1)] == [0, 0]
    clock.now_s += 9
    assert [answered(log, "p", 2), answered(log, "p", 2), answered(log, "p", 1)] == [1, 0, 0]
    assert answered(log, "q", 2) == 0


def test_after_the_window_it_is_another_group() -> None:
    clock = Clock()
    log = PromptLog(10, 0.5, clock)
    answered(log, "p", 1)
    clock.now_s += 10.1
    assert answered(log, "p", 2) == 0


def test_a_prompt_in_flight_is_never_forgotten() -> None:
    clock = Clock()
    log = PromptLog(10, 0.5, clock)
    log.begin(["p"], 1)
    clock.now_s += 100
    assert log.active() == ["p"]
    assert answered(log, "p", 2) == 1


def test_active_are_those_in_flight_and_those_within_the_quiet_time() -> None:
    clock = Clock()
    log = PromptLog(10, 0.5, clock)
    answered(log, "old", 1)
    log.begin(["slow"], 1)
    clock.now_s += 0.6
    answered(log, "new", 1)
    assert sorted(log.active()) == ["new", "slow"]


def test_lately_are_those_within_four_quiet_times() -> None:
    clock = Clock()
    log = PromptLog(10, 0.5, clock)
    answered(log, "older", 1)
    clock.now_s += 0.2
    answered(log, "old", 1)
    clock.now_s += 1.9
    assert log.lately() == ["old"]


def test_kept_prompts_stay_on_their_version_until_nobody_asks_for_them() -> None:
    clock = Clock()
    log = PromptLog(10, 0.5, clock)
    log.keep(["p"], 1)
    for _ in range(5):
        clock.now_s += 1.9  # each request begins the time anew
        assert log.kept_on(["p"]) == 1
        assert log.kept_on(["q"]) is None
        log.keep(["p"], 1)
    clock.now_s += 2.1
    assert log.kept_on(["p"]) is None


def test_a_prompt_that_went_on_stays_with_the_new_version() -> None:
    clock = Clock()
    log = PromptLog(10, 0.5, clock)
    log.keep(["p", "q"], 1)
    clock.now_s += 2.1
    assert log.kept_on(["p"]) is None
    answered(log, "p", 2)
    assert log.kept_on(["p"]) is None


def test_a_kept_prompt_stays_while_a_request_for_it_is_in_flight() -> None:
    clock = Clock()
    log = PromptLog(10, 0.5, clock)
    log.keep(["p"], 1)
    log.begin(["p"], 1)
    clock.now_s += 5
    assert log.kept_on(["p"]) == 1
    log.end(["p"])
    clock.now_s += 2.1
    assert log.kept_on(["p"]) is None


def test_a_prompt_that_is_asked_for_all_the_time_does_not_stay_for_ever() -> None:
    clock = Clock()
    log = PromptLog(10, 0.5, clock)
    log.keep(["p"], 1)
    seen = []
    for _ in range(30):
        seen.append(log.kept_on(["p"]))
        clock.now_s += 0.4
    assert seen == [1] * 25 + [None] * 5


def test_a_request_with_one_kept_prompt_takes_its_others_along() -> None:
    clock = Clock()
    log = PromptLog(10, 0.5, clock)
    log.keep(["p"], 1)
    assert log.kept_on(["other", "p"]) == 1
    assert log.kept_on(["other"]) == 1


def test_digests_are_equal_for_prompts_written_alike_and_each_comes_once() -> None:
    messages = [Message(role="user", content="hi")]
    keys = prompt_keys(["a", "b", "a", messages, [Message(role="user", content="hi")]])
    assert len(keys) == 3
    assert keys == prompt_keys(["a", "b", messages])
