from __future__ import annotations

import asyncio

import pytest

from reward_server.reload import door as module
from reward_server.reload.door import Door

pytestmark = pytest.mark.anyio


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_open_door_lets_in_at_once_and_counts() -> None:
    door = Door(Clock())
    await door.enter()
    await door.enter()
    assert door.in_flight == 2
    door.leave()
    door.leave()
    assert door.in_flight == 0


async def test_idle_is_the_time_since_the_last_request_left_and_zero_while_one_is_inside() -> None:
    clock = Clock()
    door = Door(clock)
    clock.now_s += 3
    assert door.idle_s == 3
    await door.enter()
    clock.now_s += 5
    assert door.idle_s == 0
    door.leave()
    clock.now_s += 0.5
    assert door.idle_s == 0.5


async def test_a_closed_door_holds_what_comes_and_never_what_is_inside() -> None:
    door = Door(Clock())
    await door.enter()
    door.close()
    waiting = [asyncio.create_task(door.enter()) for _ in range(3)]
    await settle()
    assert (door.in_flight, any(task.done() for task in waiting)) == (1, False)
    door.leave()
    door.open()
    await asyncio.gather(*waiting)
    assert door.in_flight == 3


async def test_who_waits_does_not_count_as_inside_so_that_a_held_replica_stays_idle() -> None:
    clock = Clock()
    door = Door(clock)
    door.close()
    waiting = asyncio.create_task(door.enter())
    await settle()
    clock.now_s += 1
    assert (door.in_flight, door.idle_s) == (0, 1)
    door.open()
    await waiting


async def test_a_request_that_goes_away_at_the_door_is_not_counted() -> None:
    door = Door(Clock())
    door.close()
    waiting = asyncio.create_task(door.enter())
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    door.open()
    await settle()
    assert door.in_flight == 0


async def test_a_door_that_closes_again_at_once_lets_nobody_slip_in() -> None:
    door = Door(Clock())
    door.close()
    waiting = asyncio.create_task(door.enter())
    await settle()
    door.open()
    door.close()
    await settle()
    assert not waiting.done()
    door.open()
    await waiting


async def test_it_opens_by_itself_when_nobody_tells_it_to_go_on_holding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HOLD_S", 0.05)
    door = Door()
    door.close()
    waiting = asyncio.create_task(door.enter())
    await asyncio.wait_for(waiting, 10)
    assert door.is_open
