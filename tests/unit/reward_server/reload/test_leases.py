from __future__ import annotations

from reward_server.reload.leases import Leases


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_lease_ends_its_time_after_the_last_pinned_request() -> None:
    clock = Clock()
    leases = Leases(900, clock)
    leases.touch(3)
    clock.now_s += 600
    leases.touch(3)
    clock.now_s += 899
    assert leases.held() == {3}
    clock.now_s += 2
    assert leases.held() == set()


def test_the_others_hear_of_a_lease_at_once_and_then_ten_times_in_its_life() -> None:
    clock = Clock()
    leases = Leases(900, clock)
    assert leases.touch(3)
    assert leases.due() == [3]
    leases.told(3)
    clock.now_s += 89
    assert not leases.touch(3)
    assert leases.due() == []
    clock.now_s += 1
    assert leases.due() == [3]
    leases.told(3)
    clock.now_s += 500
    assert leases.due() == [], "nobody has asked for it since"
