"""Promotions on a real Redis: one board, and who may change it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from assay.errors import ConflictError, DependencyError, ModelNotFoundError, NotReadyError
from assay.registry.aliases import Aliases
from assay.registry.fence import Fence, FencedError
from assay.registry.promotions import EVENTS, Registry, propose, rebuild, set_candidate
from assay.registry.protocol import Limits, advance
from assay.registry.records import Board, Promotion, ReplicaState
from assay.registry.store import Store
from assay.schemas.refs import ModelRef
from assay.streams.connection import connect
from redis_server import RedisServer
from saved_versions import save_version

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

ALIASES = Aliases(epoch=3, serving=6, previous=5, anchor=5)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with connect(redis_server.url) as client:
        yield client


@pytest.fixture
def registry(redis: Redis) -> Registry:
    return Registry(redis, "rm")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Versions 5 to 8 of `rm`, the last of them a candidate."""
    store = Store(str(tmp_path / "store"))
    for number in (5, 6, 7, 8):
        status = "candidate" if number == 8 else "released"
        folder = tmp_path / "store" / "rm" / str(number)
        save_version(folder, ModelRef("rm", number), status=status)
    return store


async def start(registry: Registry, aliases: Aliases = ALIASES) -> Board:
    board = Board(revision=1, aliases=aliases)
    assert await registry.swap(None, board)
    return board


async def promote(registry: Registry, version: int = 7, **fields: Any) -> Promotion:
    chosen = {"kind": "promote", "by": "person", "swap_when": "quiet", "timeout_s": 300.0, **fields}
    return await propose(registry, version, **chosen)


def replica(name: str, **fields: Any) -> ReplicaState:
    return ReplicaState.model_validate({"replica": name, "epoch": 3, "resident": [6], **fields})


async def test_a_board_comes_back_as_it_was_put(registry: Registry) -> None:
    assert await registry.board() is None
    board = await start(registry)
    assert await registry.board() == board
    promotion = await promote(registry)
    assert await registry.board() == board.changed(promotion=promotion)
    assert (promotion.epoch, promotion.state) == (4, "prepare")
    assert promotion.deadline_s - promotion.created_s == pytest.approx(300)


async def test_only_one_of_many_changes_a_board(registry: Registry, redis: Redis) -> None:
    board = await start(registry)
    changes = [board.changed(aliases=ALIASES.with_candidate(n)) for n in range(10, 30)]
    swapped = await asyncio.gather(*(registry.swap(board, change) for change in changes))
    assert sum(swapped) == 1
    assert await registry.board() == changes[swapped.index(True)]
    assert not await registry.swap(None, changes[0])
    await redis.delete("assay:board:rm")
    assert not await registry.swap(board, changes[0])


async def test_a_change_that_comes_too_late_is_not_made(registry: Registry) -> None:
    board = await start(registry)
    now_s = await registry.now_s()

    assert not await registry.swap(board, board.changed(), not_after_s=now_s)
    assert await registry.swap(board, board.changed(), not_after_s=now_s + 60)


async def test_a_moment_is_never_later_by_redis_than_it_is(registry: Registry) -> None:
    assert registry.redis_s(time.monotonic()) == 0.0
    before_s = await registry.now_s()
    await registry.heartbeat(replica("a"))

    for _ in range(20):
        assert before_s <= registry.redis_s(time.monotonic()) <= await registry.now_s()


async def test_boards_of_two_models_are_apart(registry: Registry, redis: Redis) -> None:
    await start(registry)
    assert await Registry(redis, "other").board() is None


async def test_revisions_of_microseconds_stay_exact(registry: Registry) -> None:
    board = Board(revision=2**53 - 3, aliases=ALIASES)
    assert await registry.swap(None, board)
    assert not await registry.swap(board.model_copy(update={"revision": 2**53 - 4}), board)
    assert await registry.swap(board, board.changed())


async def test_the_history_follows_the_board(registry: Registry, redis: Redis) -> None:
    await start(registry)
    promotion = await promote(registry)
    assert await registry.promotion(promotion.id) == promotion
    board = await registry.board()
    assert board is not None
    refused = promotion.model_copy(update={"state": "refused", "reason": "no"})
    assert await registry.swap(board, board.changed(promotion=refused))
    assert await registry.promotion(promotion.id) == refused
    assert await registry.promotion("unknown") is None
    assert 86000 < await redis.ttl(f"assay:promotion:{promotion.id}") <= 86400


async def test_a_change_that_lost_leaves_no_history(registry: Registry) -> None:
    board = await start(registry)
    await promote(registry)
    late = Promotion.model_validate(
        {**(await promote_fields(registry)), "id": "late", "version": 8}
    )
    assert not await registry.swap(board, board.changed(promotion=late))
    assert await registry.promotion("late") is None


async def promote_fields(registry: Registry) -> dict[str, Any]:
    board = await registry.board()
    assert board is not None
    assert board.promotion is not None
    return board.promotion.model_dump()


async def test_a_second_promotion_is_refused_by_the_first_one_s_name(registry: Registry) -> None:
    await start(registry)
    first = await promote(registry, 7)
    with pytest.raises(ConflictError, match=rf"{first.id} of rm@7 is under way \(prepare\)"):
        await promote(registry, 8)
    with pytest.raises(ConflictError, match=first.id):
        await propose(registry, None, "rollback", "person", "quiet", 300.0)


async def test_of_many_promotions_at_once_one_begins(registry: Registry) -> None:
    await start(registry)
    outcomes = await asyncio.gather(
        *(promote(registry, n) for n in range(7, 17)), return_exceptions=True
    )
    (begun,) = [outcome for outcome in outcomes if isinstance(outcome, Promotion)]
    assert [type(o) for o in outcomes if o is not begun] == [ConflictError] * 9
    board = await registry.board()
    assert board is not None
    assert board.active == begun


async def test_a_promotion_that_ended_makes_room(registry: Registry) -> None:
    await start(registry)
    await promote(registry, 7)
    board = await registry.board()
    assert board is not None
    assert board.promotion is not None
    ended = board.promotion.model_copy(update={"state": "refused"})
    assert await registry.swap(board, board.changed(promotion=ended))
    assert (await promote(registry, 8)).version == 8


async def test_a_rollback_goes_to_the_previous_version(registry: Registry) -> None:
    await start(registry)
    promotion = await propose(registry, None, "rollback", "person", "now", 300.0)
    assert (promotion.version, promotion.kind) == (5, "rollback")


async def test_what_cannot_be_promoted(registry: Registry) -> None:
    with pytest.raises(NotReadyError, match="no server of rm"):
        await promote(registry)
    await start(registry, Aliases(serving=6))
    with pytest.raises(ConflictError, match="rm@6 is serving already"):
        await promote(registry, 6)
    with pytest.raises(ConflictError, match="no previous version of rm"):
        await propose(registry, None, "rollback", "person", "quiet", 300.0)


async def test_replicas_are_those_heard_lately(registry: Registry, redis: Redis) -> None:
    state = replica("b", failed={7: "why"}, held=4, recent=["p"], idle_ms=12.5, at_s=5.0)
    before_s = await registry.now_s()
    await registry.heartbeat(state)
    await registry.heartbeat(replica("a"))
    first, second = await registry.replicas()
    assert first.replica == "a"
    assert second == state.model_copy(update={"at_s": second.at_s})
    assert before_s <= second.at_s <= await registry.now_s()
    await redis.zadd("assay:heard:rm", {"b": second.at_s - 5})
    assert [each.replica for each in await registry.replicas()] == ["a"]
    await registry.heartbeat(replica("b"))
    assert [each.replica for each in await registry.replicas()] == ["a", "b"]
    await registry.leave("a")
    assert [each.replica for each in await registry.replicas()] == ["b"]


async def test_what_is_decided_on_aliases_of_before_is_not_promoted(registry: Registry) -> None:
    board = await start(registry)
    with pytest.raises(ConflictError, match=f"not at {board.aliases.epoch + 1}: look again"):
        await propose(registry, 7, "promote", "trainer", "now", 300.0, board.aliases.epoch + 1)
    assert await registry.board() == board
    await propose(registry, 7, "promote", "trainer", "now", 300.0, board.aliases.epoch)


async def test_a_writer_that_was_replaced_changes_no_board(
    registry: Registry, redis: Redis
) -> None:
    old = Registry(redis, registry.name, lambda: nullcontext(Fence("newest", 1)))
    board = await start(registry)
    with pytest.raises(DependencyError, match="lost"):
        await old.swap(board, board.changed())
    await redis.set("newest", 1)
    changed = board.changed()
    assert await old.swap(board, changed)
    assert not await old.swap(board, changed)
    await redis.set("newest", 2)
    with pytest.raises(FencedError, match="another trainer"):
        await old.swap(changed, changed.changed())
    assert await registry.board() == changed


async def test_the_long_dead_are_forgotten(registry: Registry, redis: Redis) -> None:
    await registry.heartbeat(replica("a"))
    await redis.zadd("assay:heard:rm", {"a": await registry.now_s() - 61})
    await registry.heartbeat(replica("b"))
    assert await redis.hkeys("assay:replicas:rm") == ["b"]
    assert await redis.zcard("assay:heard:rm") == 1


async def test_leases_end_and_are_never_shortened(registry: Registry, redis: Redis) -> None:
    await registry.lease(6, 900)
    await registry.lease(7, 900)
    await registry.lease(7, 1)
    assert await registry.leases() == {6, 7}
    end_s = await redis.zscore("assay:leases:rm", "7")
    assert end_s == pytest.approx(await registry.now_s() + 900, abs=60)
    await redis.zadd("assay:leases:rm", {"6": await registry.now_s() - 0.001})
    assert await registry.leases() == {7}
    await registry.lease(8, 0.5)
    assert await redis.zrange("assay:leases:rm", 0, -1) == ["8", "7"]


async def test_events_are_kept_in_order_and_bounded(registry: Registry, redis: Redis) -> None:
    await registry.event("published", {"version": 7, "metrics": {"accuracy": 0.5}})
    await Registry(redis, "other").event("refused", {"reason": "no"})
    first, second = await registry.events()
    assert (first.name, first.kind) == ("rm", "published")
    assert first.fields == {"version": 7, "metrics": {"accuracy": 0.5}}
    assert await registry.events(after=first.id) == [second]
    async with redis.pipeline(transaction=False) as pipe:
        for _ in range(10_500):
            pipe.xadd(EVENTS, {"name": "rm", "kind": "k", "fields": "{}"})
        await pipe.execute()
    await registry.event("last", {})
    assert await redis.xlen(EVENTS) < 10_400


async def test_changes_wake_the_listeners(registry: Registry, redis: Redis) -> None:
    hints = registry.hints()
    for change in (lambda: start(registry), lambda: promote(registry), registry.hint):
        woken = asyncio.ensure_future(anext(hints))
        await listening(redis)
        assert not woken.done()
        await change()
        async with asyncio.timeout(60):
            await woken


async def listening(redis: Redis) -> None:
    for _ in range(1000):
        if (await redis.pubsub_numsub("assay:hints:rm"))[0][1]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody listens")


async def test_listeners_outlive_silence_and_hear_of_a_lost_connection(
    registry: Registry, redis_server: RedisServer
) -> None:
    hints = registry.hints()
    waiting = asyncio.ensure_future(anext(hints))
    await asyncio.sleep(2.6)  # longer than any timeout of the connection
    assert not waiting.done()
    redis_server.kill()
    with pytest.raises(DependencyError):
        await waiting


async def test_a_promotion_from_beginning_to_end(registry: Registry, store: Store) -> None:
    board = await rebuild(registry, store, serving=6)
    promotion = await promote(registry, 7)
    epoch, held = 0, None
    states = []
    while (board := await current(registry)).active:
        for name in ("a", "b"):
            until_s = await registry.now_s() + 60
            state = replica(name, epoch=epoch, resident=[6, 7], idle_ms=600.0, held=held)
            await registry.heartbeat(state.model_copy(update={"held_until_s": until_s}))
        limits = Limits(hold_s=60)
        after = advance(board, await registry.replicas(), await registry.now_s(), limits)
        assert after is not None
        assert after.promotion is not None
        states.append(after.promotion.state)
        assert await registry.swap(board, after)
        epoch = after.aliases.epoch
        held = promotion.epoch if after.promotion.state == "hold" else None
    assert states == ["wait", "hold", "flip", "done"]
    assert board.aliases == Aliases(epoch=1, serving=7, previous=6, anchor=7)
    assert store.write_aliases("rm", board.aliases)


async def current(registry: Registry) -> Board:
    board = await registry.board()
    assert board is not None
    return board


async def test_rebuilding_takes_the_store_s_aliases(
    registry: Registry, redis: Redis, store: Store
) -> None:
    store.write_aliases("rm", ALIASES)
    board = await rebuild(registry, store, serving=8)
    assert board.aliases == ALIASES
    assert await rebuild(registry, store) == board
    await registry.swap(board, board.changed(aliases=ALIASES.flipped(7, by_person=True)))
    before = await current(registry)
    store.write_aliases("rm", before.aliases)
    await redis.flushall()
    again = await rebuild(registry, store)
    assert again.aliases == before.aliases
    # Whoever still has a board from before the loss cannot put it in place of this one.
    assert again.revision > before.revision
    assert not await registry.swap(before, before.changed())


async def test_the_first_board_fixes_what_serves(registry: Registry, store: Store) -> None:
    assert (await rebuild(registry, store)).aliases == Aliases(serving=7, anchor=7)
    assert store.aliases("rm") == Aliases(serving=7, anchor=7)


async def test_many_that_rebuild_at_once_agree(registry: Registry, store: Store) -> None:
    boards = await asyncio.gather(*(rebuild(registry, store) for _ in range(8)))
    assert boards == [boards[0]] * 8


async def test_nothing_to_rebuild_from(redis: Redis, store: Store) -> None:
    with pytest.raises(ModelNotFoundError, match="no released version of other"):
        await rebuild(Registry(redis, "other"), store)


async def test_a_candidate_is_on_the_board_and_in_the_store(
    registry: Registry, store: Store
) -> None:
    await set_candidate(registry, store, 8)  # no board yet: the store alone
    assert store.aliases("rm").candidate == 8
    board = await rebuild(registry, store)
    assert board.aliases.candidate == 8
    await set_candidate(registry, store, None)
    assert store.aliases("rm").candidate is None
    assert (await current(registry)).aliases.candidate is None
    await set_candidate(registry, store, 7)  # it serves
    assert (await current(registry)).aliases.candidate is None


async def test_damaged_keys_are_named(registry: Registry, redis: Redis) -> None:
    await registry.heartbeat(replica("a"))
    await redis.hset("assay:replicas:rm", "a", "{")
    await redis.set("assay:board:rm", '{"revision": "x"}')
    await redis.set("assay:promotion:p", "[]")
    await redis.xadd(EVENTS, {"name": "rm", "kind": "k", "fields": "{"})
    asks: dict[str, Callable[[], Awaitable[object]]] = {
        "assay:board:rm": registry.board,
        "assay:replicas:rm": registry.replicas,
        "assay:events": registry.events,
        "assay:promotion:p": lambda: registry.promotion("p"),
    }
    for key, ask in asks.items():
        with pytest.raises(DependencyError, match=f"{key} in Redis is damaged"):
            await ask()


async def test_without_redis_everything_says_so(
    registry: Registry, store: Store, redis_server: RedisServer
) -> None:
    board = await start(registry)
    redis_server.kill()
    asks: tuple[Callable[[], Awaitable[object]], ...] = (
        registry.board,
        lambda: registry.swap(board, board.changed()),
        lambda: registry.heartbeat(replica("a")),
        registry.replicas,
        lambda: registry.lease(7, 1),
        lambda: registry.event("k", {}),
        lambda: rebuild(registry, store),
        lambda: promote(registry),
    )
    for ask in asks:
        with pytest.raises(DependencyError):
            await ask()
