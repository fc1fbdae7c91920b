"""How a promotion moves on: one pure decision that any replica may take and swap in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.registry.records import Board, Promotion, ReplicaState


@dataclass(frozen=True)
class Limits:
    """Times of the protocol.

    Attributes:
        quiet_ms: idle time on every replica that counts as a gap between groups.
        quiet_deadline_s: longest wait for such a gap, from the moment that all have loaded.
        hold_s: how long doors may be closed; a door opens by itself when its replica hears nothing
            for that long. Replicas say when that will be, and a flip comes at least half of it
            before, so that the doors are still closed when it reaches them. A member that was not
            heard for all of it may be dead: no door closes until it is back, or gone.
    """

    quiet_ms: float = 500.0
    quiet_deadline_s: float = 20.0
    hold_s: float = 2.0


def advance(
    board: Board, replicas: Sequence[ReplicaState], now_s: float, limits: Limits
) -> Board | None:
    """The next board, or None while there is nothing to decide.

    ```
    prepare ---> wait <--> hold ---> flip ---> done      (`now`: from prepare straight to hold)
         `--------`---------`---> refused
    ```

    prepare: until every member has the version resident. wait: until all have been idle for
    `quiet_ms`, or the quiet deadline has passed. hold: until all have closed their doors; a member
    that got busy in between leads back to wait while the deadline allows, one that fell silent in
    any case. flip: the aliases have moved and each replica follows; done when all have. Until the
    flip a member that lacks the version leads back to prepare, and one that failed to load it to
    refused.

    Whoever swaps in a `done` has written the aliases to the store before, or has tried to for long
    and goes on trying: a store that cannot be written must not stand in the way of a rollback.
    A replica that could not reach Redis for a while lets `MEMBER_S` pass before it decides again:
    the others' heartbeats may have stopped for the same reason.

    Args:
        board: as it was read.
        replicas: the members: those with a fresh heartbeat. Without any nothing moves, but a
            `prepare` past its deadline is refused.
        now_s: Redis's time.
        limits: times of the protocol.
    """
    promotion = board.active
    if promotion is None:
        return None
    if promotion.state == "flip":
        behind = [each for each in replicas if each.epoch < promotion.epoch]
        return None if behind or not replicas else _to(board, replicas, state="done")
    step = _prepared(board, promotion, replicas, now_s, limits)
    if step is not None or promotion.state == "prepare" or not replicas:
        return step
    if promotion.state == "wait":
        return _wait(board, promotion, replicas, now_s, limits)
    return _hold(board, promotion, replicas, now_s, limits)


def not_after_s(board: Board, replicas: Sequence[ReplicaState], limits: Limits) -> float | None:
    """When it is too late to put a board from `advance` in place; None = it never is."""
    if board.active is None or board.active.state != "flip":
        return None
    return min(_last_flip_s(each, limits) for each in replicas)


def _prepared(
    board: Board,
    promotion: Promotion,
    replicas: Sequence[ReplicaState],
    now_s: float,
    limits: Limits,
) -> Board | None:
    """Whether all have loaded the version: the way on from prepare, or back to it, or out."""
    version = promotion.version
    for each in replicas:
        if version in each.failed:
            return _refuse(board, replicas, f"{each.replica}: {each.failed[version]}")
    missing = [each.replica for each in replicas if version not in each.resident]
    if promotion.state != "prepare":
        return _to(board, replicas, state="prepare") if missing else None
    if replicas and not missing:
        since_s = now_s if promotion.wait_since_s is None else promotion.wait_since_s
        if promotion.swap_when == "now" and not _silent(replicas, now_s, limits):
            return _to(board, replicas, state="hold", wait_since_s=since_s, hold_since_s=now_s)
        return _to(board, replicas, state="wait", wait_since_s=since_s)
    if now_s >= promotion.deadline_s:
        where = ", ".join(missing) or "any replica"
        return _refuse(board, replicas, f"not loaded in time by {where}")
    return None


def _wait(
    board: Board,
    promotion: Promotion,
    replicas: Sequence[ReplicaState],
    now_s: float,
    limits: Limits,
) -> Board | None:
    if _silent(replicas, now_s, limits):
        return None
    if _may_wait(promotion, now_s, limits) and _busy(replicas, limits):
        return None
    return _to(board, replicas, state="hold", hold_since_s=now_s)


def _hold(
    board: Board,
    promotion: Promotion,
    replicas: Sequence[ReplicaState],
    now_s: float,
    limits: Limits,
) -> Board | None:
    may_wait = _may_wait(promotion, now_s, limits)
    if may_wait and _busy(replicas, limits):
        return _to(board, replicas, state="wait")
    open_doors = [each.replica for each in replicas if not _holds(each, promotion, now_s, limits)]
    if not open_doors:
        return _flip(board, promotion, replicas, limits)
    if now_s - (promotion.hold_since_s or 0.0) < limits.hold_s:
        return None
    if may_wait or _silent(replicas, now_s, limits):
        return _to(board, replicas, state="wait")
    names = ", ".join(open_doors)
    return _refuse(board, replicas, f"did not hold requests back in time: {names}")


def _flip(
    board: Board, promotion: Promotion, replicas: Sequence[ReplicaState], limits: Limits
) -> Board:
    """Move the aliases; where no gap between groups was found, groups under way stay behind."""
    splits = promotion.swap_when == "quiet" and _busy(replicas, limits)
    stay = {digest for each in replicas for digest in each.recent} if splits else set()
    return _to(
        board.model_copy(
            update={
                "aliases": board.aliases.flipped(
                    promotion.version, by_person=promotion.by == "person"
                )
            }
        ),
        replicas,
        state="flip",
        stay=sorted(stay),
    )


def _may_wait(promotion: Promotion, now_s: float, limits: Limits) -> bool:
    since_s = promotion.wait_since_s or 0.0
    return promotion.swap_when == "quiet" and now_s - since_s < limits.quiet_deadline_s


def _busy(replicas: Sequence[ReplicaState], limits: Limits) -> bool:
    return any(each.idle_ms < limits.quiet_ms for each in replicas)


def _silent(replicas: Sequence[ReplicaState], now_s: float, limits: Limits) -> bool:
    return any(now_s - each.at_s >= limits.hold_s for each in replicas)


def _holds(replica: ReplicaState, promotion: Promotion, now_s: float, limits: Limits) -> bool:
    return replica.held == promotion.epoch and now_s < _last_flip_s(replica, limits)


def _last_flip_s(replica: ReplicaState, limits: Limits) -> float:
    return replica.held_until_s - limits.hold_s / 2


def _refuse(board: Board, replicas: Sequence[ReplicaState], reason: str) -> Board:
    return _to(board, replicas, state="refused", reason=reason)


def _to(board: Board, replicas: Sequence[ReplicaState], **changes: object) -> Board:
    members = sorted(each.replica for each in replicas)
    moved = {"members": members, **changes}
    return board.changed(promotion=board.promotion and board.promotion.model_copy(update=moved))
