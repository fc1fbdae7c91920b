"""How a promotion moves on: one pure decision that any replica may take and swap in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.registry.records import Board, ReplicaState


@dataclass(frozen=True)
class Limits:
    """Times of the protocol.

    Attributes:
        quiet_ms: idle time on every replica that counts as a gap between groups.
        quiet_deadline_s: longest wait for such a gap, from the moment that all have loaded.
        hold_s: how long doors may be closed; also how old a replica's word may be that its door
            is closed, as a door opens by itself when its replica hears nothing for that long.
    """

    quiet_ms: float = 500.0
    quiet_deadline_s: float = 20.0
    hold_s: float = 2.0


def advance(
    board: Board, replicas: Sequence[ReplicaState], now_s: float, limits: Limits
) -> Board | None:
    """The next board, or None while there is nothing to decide.

        prepare -> wait -> hold -> flip -> done
              \\      <----/  \\
               refused         refused

    prepare: until every member has the version resident. wait: until all have been idle for
    `quiet_ms` or the quiet deadline has passed; `now` does not wait. hold: until all have closed
    their doors; if one was busy again by then, back to wait while the deadline allows. flip: the
    aliases have moved, each replica follows; done when all have.

    Whoever swaps in a `done` has written the aliases to the store before.

    Args:
        board: as it was read.
        replicas: the members: those with a fresh heartbeat. Without any nothing moves, but a
            promotion past its deadline is refused.
        now_s: Redis's time.
        limits: times of the protocol.
    """
    raise NotImplementedError
