from __future__ import annotations

import asyncio
import time

import pytest

from reward_server.reload.door import Door
from reward_server.reload.live_clock import LiveClock
from reward_server.tasks import end


def test_a_stall_counts_for_two_ticks_at_most() -> None:
    now_s = 100.0
    clock = LiveClock(lambda: now_s)

    for elapsed_s in (0.05, 0.05, 7.0, 0.05):
        now_s += elapsed_s
        clock.tick()

    assert clock() == pytest.approx(0.05 + 0.05 + 0.1 + 0.05)


@pytest.mark.anyio
async def test_a_replica_whose_loop_was_blocked_does_not_call_it_quiet() -> None:
    clock = LiveClock()
    door = Door(clock)
    running = asyncio.create_task(clock.run())
    await door.enter()
    door.leave()

    time.sleep(0.6)  # noqa: ASYNC251 - the loop is to stall
    blocked_s = door.idle_s
    await asyncio.sleep(0.6)

    assert blocked_s <= 0.11
    assert 0.3 <= door.idle_s <= 0.75
    await end(running)
