"""Every step of a promotion, as a table: what the members say, and where it moves."""

from __future__ import annotations

from typing import Any

import pytest

from assay.registry.aliases import Aliases
from assay.registry.protocol import Limits, advance, not_after_s
from assay.registry.records import Board, Promotion, ReplicaState

LIMITS = Limits(quiet_ms=500, quiet_deadline_s=20, hold_s=2)
NOW_S = 1000.0
READY = {"resident": [6, 7], "idle_ms": 500.0}
BUSY = {"resident": [6, 7], "idle_ms": 499.9}
SILENT = {**READY, "at_s": NOW_S - 2}  # killed, perhaps: a member for three seconds more
HELD = {"held": 4, "held_until_s": NOW_S + 1.9}
HOLDS = {**READY, **HELD}
HOLDS_BUSY = {**BUSY, **HELD}


def board(state: str, **fields: Any) -> Board:
    """`rm@6` serves at epoch 3, and the promotion of `rm@7` is in `state`."""
    promotion = Promotion.model_validate(
        {
            "id": "p",
            "name": "rm",
            "version": 7,
            "kind": "promote",
            "by": "trainer",
            "swap_when": "quiet",
            "state": state,
            "epoch": 4,
            "created_s": NOW_S - 5,
            "deadline_s": NOW_S + 295,
            "wait_since_s": None if state == "prepare" else NOW_S - 4,
            "hold_since_s": NOW_S - 1 if state in ("hold", "flip") else None,
            **fields,
        }
    )
    aliases = Aliases(epoch=3, serving=6, previous=5, candidate=7, anchor=2)
    if state == "flip":
        aliases = aliases.flipped(7, by_person=False)
    return Board(revision=10, aliases=aliases, promotion=promotion)


def members(*states: dict[str, Any]) -> list[ReplicaState]:
    """Replicas `a`, `b` ..., heard just now, at epoch 3."""
    names = "abcdefgh"
    return [
        ReplicaState.model_validate(
            {"replica": name, "epoch": 3, "resident": [6], "at_s": NOW_S - 0.1, **state}
        )
        for name, state in zip(names, states, strict=False)
    ]


def step(state: str, *states: dict[str, Any], **fields: Any) -> Promotion | None:
    """The promotion after one step; None = nothing to decide."""
    before = board(state, **fields)
    after = advance(before, members(*states), NOW_S, LIMITS)
    if after is None:
        return None
    assert after.revision == 11
    assert after.promotion is not None
    assert after.promotion.members == [each.replica for each in members(*states)]
    return after.promotion


@pytest.mark.parametrize(
    ("fields", "states", "expected"),
    [
        ({}, [READY, READY], "wait"),
        ({}, [READY, BUSY], "wait"),  # quiet is not asked yet
        ({}, [READY, {}], None),  # b has not loaded it
        ({}, [READY], "wait"),
        ({}, [], None),
        ({"swap_when": "now"}, [BUSY, BUSY], "hold"),
        ({"swap_when": "now"}, [READY, {}], None),
        ({"swap_when": "now"}, [READY, SILENT], "wait"),
        ({"deadline_s": NOW_S}, [READY, READY], "wait"),  # loaded at the last moment
        ({"deadline_s": NOW_S}, [READY, {}], "refused"),
        ({"deadline_s": NOW_S}, [], "refused"),
        ({"deadline_s": NOW_S + 0.1}, [READY, {}], None),
        ({}, [READY, {"failed": {7: "damaged"}}], "refused"),
        ({}, [READY, {"failed": {5: "damaged"}}], None),  # another version's failure
        ({"version": 6, "kind": "rollback"}, [READY, READY], "wait"),
    ],
)
def test_prepare(fields: dict[str, Any], states: list[Any], expected: str | None) -> None:
    after = step("prepare", *states, **fields)
    assert (after and after.state) == expected


@pytest.mark.parametrize(
    ("fields", "states", "expected"),
    [
        ({}, [READY, READY], "hold"),
        ({}, [READY, BUSY], None),
        ({"wait_since_s": NOW_S - 20}, [BUSY, BUSY], "hold"),
        ({"wait_since_s": NOW_S - 19.9}, [BUSY, BUSY], None),
        ({"swap_when": "now"}, [BUSY, BUSY], "hold"),
        ({}, [READY, SILENT], None),
        ({"wait_since_s": NOW_S - 20}, [READY, SILENT], None),
        ({"swap_when": "now"}, [READY, SILENT], None),
        ({"swap_when": "now"}, [READY, {**READY, "at_s": NOW_S - 1.9}], "hold"),
        ({}, [READY, {"idle_ms": 900.0}], "prepare"),  # b came later, and has not loaded it
        ({}, [READY, {**READY, "failed": {7: "out of memory"}}], "refused"),
        ({}, [], None),
    ],
)
def test_wait(fields: dict[str, Any], states: list[Any], expected: str | None) -> None:
    after = step("wait", *states, **fields)
    assert (after and after.state) == expected


@pytest.mark.parametrize(
    ("fields", "states", "expected"),
    [
        ({}, [HOLDS, HOLDS], "flip"),
        ({}, [HOLDS, READY], None),  # b has not heard yet
        ({}, [HOLDS, {**HOLDS, "held": 3}], None),  # b still holds for an earlier one
        ({}, [HOLDS, HOLDS_BUSY], "wait"),  # a request came to b before its door closed
        ({}, [HOLDS, BUSY], "wait"),
        ({"wait_since_s": NOW_S - 20}, [HOLDS, HOLDS_BUSY], "flip"),
        ({"wait_since_s": NOW_S - 20}, [HOLDS, BUSY], None),
        ({"swap_when": "now"}, [HOLDS_BUSY, HOLDS_BUSY], "flip"),
        ({"swap_when": "now"}, [HOLDS_BUSY, BUSY], None),
        # Held back for two seconds, and b does not answer: no request waits for longer.
        ({"hold_since_s": NOW_S - 2}, [HOLDS, READY], "wait"),
        ({"hold_since_s": NOW_S - 2, "wait_since_s": NOW_S - 20}, [HOLDS, READY], "refused"),
        ({"hold_since_s": NOW_S - 2, "swap_when": "now"}, [HOLDS, READY], "refused"),
        # Silence is another matter: they wait with open doors until b is back, or no member.
        ({"hold_since_s": NOW_S - 2, "wait_since_s": NOW_S - 20}, [HOLDS, SILENT], "wait"),
        ({"hold_since_s": NOW_S - 2, "swap_when": "now"}, [HOLDS, SILENT], "wait"),
        # b's door might open by itself before the flip reaches it, however lately b was heard.
        ({}, [HOLDS, {**HOLDS, "held_until_s": NOW_S + 1.0}], None),
        ({}, [HOLDS, {**HOLDS, "held_until_s": NOW_S + 1.1}], "flip"),
        ({}, [HOLDS, {"idle_ms": 900.0}], "prepare"),
        ({}, [HOLDS, {**HOLDS, "failed": {7: "out of memory"}}], "refused"),
        ({}, [], None),
    ],
)
def test_hold(fields: dict[str, Any], states: list[Any], expected: str | None) -> None:
    after = step("hold", *states, **fields)
    assert (after and after.state) == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([{"epoch": 4}, {"epoch": 4}], "done"),
        ([{"epoch": 4}, {"epoch": 3}], None),
        ([{"epoch": 4}], "done"),  # b has died
        ([{"epoch": 4}, {"epoch": 5}], "done"),
        ([{"epoch": 4, "failed": {7: "too late to refuse"}}], "done"),
        ([], None),
    ],
)
def test_flip(states: list[Any], expected: str | None) -> None:
    after = step("flip", *states)
    assert (after and after.state) == expected


@pytest.mark.parametrize("state", ["done", "refused"])
def test_what_has_ended_stays_as_it_is(state: str) -> None:
    assert step(state, HOLDS, HOLDS) is None


def test_without_a_promotion_nothing_moves() -> None:
    idle = Board(revision=1, aliases=Aliases(serving=6))
    assert advance(idle, members(READY), NOW_S, LIMITS) is None


@pytest.mark.parametrize(("by", "anchor"), [("trainer", 2), ("person", 7)])
def test_a_flip_moves_the_aliases(by: str, anchor: int) -> None:
    after = advance(board("hold", by=by), members(HOLDS, HOLDS), NOW_S, LIMITS)
    assert after is not None
    assert after.aliases == Aliases(epoch=4, serving=7, previous=6, candidate=None, anchor=anchor)


def test_a_refusal_leaves_the_aliases_and_says_why() -> None:
    before = board("prepare")
    after = advance(before, members(READY, {"failed": {7: "digest"}}), NOW_S, LIMITS)
    assert after is not None
    assert after.aliases == before.aliases
    assert after.promotion is not None
    assert after.promotion.reason == "b: digest"


def test_a_refusal_for_time_names_who_has_not_loaded() -> None:
    after = step("prepare", READY, {}, {}, deadline_s=NOW_S)
    assert after is not None
    assert after.reason == "not loaded in time by b, c"


def test_a_refusal_for_open_doors_names_them() -> None:
    after = step("hold", HOLDS_BUSY, BUSY, swap_when="now", hold_since_s=NOW_S - 2)
    assert after is not None
    assert after.reason == "did not hold requests back in time: b"


@pytest.mark.parametrize(("swap_when", "expected"), [("quiet", ["p1", "p2", "p3"]), ("now", [])])
def test_a_forced_flip_keeps_busy_prompts_on_the_old_version(
    swap_when: str, expected: list[str]
) -> None:
    busy = [{**HOLDS_BUSY, "recent": ["p3", "p1"]}, {**HOLDS_BUSY, "recent": ["p1", "p2"]}]
    after = step("hold", *busy, swap_when=swap_when, wait_since_s=NOW_S - 20)
    assert after is not None
    assert (after.state, after.stay) == ("flip", expected)


def test_a_flip_in_a_gap_keeps_no_prompt_behind() -> None:
    idle = [{**HOLDS, "recent": ["p1"]}, {**HOLDS, "recent": ["p2"]}]
    after = step("hold", *idle)
    assert after is not None
    assert (after.state, after.stay) == ("flip", [])


def test_the_quiet_deadline_counts_from_the_first_wait() -> None:
    first = step("prepare", READY, READY)
    assert first is not None
    assert first.wait_since_s == NOW_S
    again = step("prepare", READY, READY, wait_since_s=NOW_S - 12)
    assert again is not None
    assert again.wait_since_s == NOW_S - 12
    back = step("hold", HOLDS, HOLDS_BUSY, wait_since_s=NOW_S - 12)
    assert back is not None
    assert (back.state, back.wait_since_s) == ("wait", NOW_S - 12)


def test_each_hold_has_its_own_two_seconds() -> None:
    after = step("wait", READY, READY, hold_since_s=NOW_S - 100)
    assert after is not None
    assert (after.state, after.hold_since_s) == ("hold", NOW_S)


def test_a_flip_comes_a_second_before_the_first_door_opens_by_itself() -> None:
    states = members(HOLDS, {**HOLDS, "held_until_s": NOW_S + 1.5})

    assert not_after_s(board("flip"), states, LIMITS) == NOW_S + 0.5
    assert not_after_s(board("hold"), states, LIMITS) is None
