"""The trainer as a whole, on a real Redis and a store in a folder."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import torch
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from assay.errors import ArtifactError, DataError, DependencyError
from assay.models.loading import load
from assay.registry.fence import FencedError
from assay.registry.promotions import Registry, propose
from assay.registry.records import Board, Promotion, PromotionState
from assay.registry.store import Store
from assay.schemas.refs import ModelRef
from assay.schemas.storage import Sample
from assay.streams.connection import connect
from assay.streams.samples import STREAM, SampleStream
from fleet import LATE_S, eventually
from online_trainer import (
    NAME,
    ForkedTrainer,
    fields,
    make_home,
    read_jsonl,
    sample,
    save_model,
    trainer_settings,
)
from redis_server import RedisServer
from reward_trainer.gate.data import is_held_group
from reward_trainer.gate.probe import Probe
from reward_trainer.online.checkpoint import read_checkpoint
from reward_trainer.online.following import Served, meaning
from reward_trainer.online.groups import Joining
from reward_trainer.online.intake import Intake
from reward_trainer.online.lease import LEASE, Lease
from reward_trainer.online.metrics import TrainerMetrics
from reward_trainer.online.preferences import read_stored
from reward_trainer.online.reports import Reports
from reward_trainer.online.service import Trainer
from reward_trainer.online.settings import TrainerSettings
from reward_trainer.online.state import State
from reward_trainer.online.versions import Versions
from serving import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("made") / "home")


@pytest.fixture
def home(made_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_home, tmp_path / "home"))


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    redis = connect(redis_server.url)
    yield redis
    await redis.aclose()


class Running:
    """A trainer in this process, and what it can be asked from outside."""

    def __init__(self, settings: TrainerSettings, client: Redis) -> None:
        self.settings, self.client = settings, client
        self.store = Store(settings.store_url)
        versions = Versions(settings.model, self.store, settings.device)
        assert settings.preferences is not None
        stored = read_stored(settings, settings.preferences, Probe(self.store, versions.name))
        self.registry = Registry(client, NAME)
        self.folder = settings.folder / NAME
        self.starts = len(self.events("started"))
        self.metrics = TrainerMetrics(CollectorRegistry())
        reports = Reports(self.folder, self.registry, self.metrics)
        self.trainer = Trainer(settings, client, versions, stored, reports)

    async def feed(self, *numbers: int) -> None:
        stream = SampleStream(self.client, max_entries=1000, idempotency_ttl_s=60)
        await stream.append([trained(number) for number in numbers], None)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in read_jsonl(self.folder / "events.jsonl") if e["kind"] == kind]

    async def told(self, kind: str, times: int = 1) -> dict[str, Any]:
        """The n-th event of a kind, when it comes."""

        async def event() -> dict[str, Any] | None:
            found = self.events(kind)
            return found[times - 1] if len(found) >= times else None

        told: dict[str, Any] = await eventually(event, kind)
        return told

    async def consumed(self, left: int = 0) -> None:
        """Return when that many entries are left in the stream."""

        async def only_those() -> bool:
            return bool(await self.client.xlen(STREAM) == left)

        await eventually(only_those, f"a stream of {left} entries")


@asynccontextmanager
async def running(settings: TrainerSettings, client: Redis) -> AsyncIterator[Running]:
    made = Running(settings, client)
    task = asyncio.create_task(made.trainer.run())
    try:
        await made.told("started", made.starts + 1)
        yield made
    finally:
        made.trainer.stop()
        await asyncio.wait_for(task, LATE_S)


def trained(number: int) -> Sample:
    """A sample that is not held out."""
    prompts = (f"prompt {i}" for i in range(10_000))
    free = [
        prompt
        for prompt, _ in zip((p for p in prompts if not is_held_group(p)), range(200), strict=False)
    ]
    return sample(number, prompt=free[number])


@pytest.mark.anyio
async def test_a_version_is_made_judged_and_left_as_candidate(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    async with running(trainer_settings(home, redis_server.url), client) as run:
        await run.feed(*range(9))
        event = await run.told("candidate")
        await run.consumed()
    assert event["version"] == "toy@2"
    manifest = run.store.manifest(ModelRef(NAME, 2))
    assert (manifest.status, manifest.parent, manifest.updates) == ("candidate", "toy@1", 3)
    assert manifest.gate is not None
    assert {rule["name"] for rule in manifest.gate["rules"]} >= {"finite", "accuracy_parent"}
    assert manifest.recipe["rule"] == "shared_moments"
    assert manifest.lineage_id == run.trainer.state.lineage
    assert manifest.last_stream_id is not None
    assert run.store.aliases(NAME).candidate == 2
    assert run.store.aliases(NAME).serving == 1
    board = await run.registry.board()
    assert board is not None
    assert board.aliases.candidate == 2
    assert board.promotion is None
    kinds = [event.kind for event in await run.registry.events()]
    assert kinds == ["started", "candidate"]


@pytest.mark.anyio
async def test_what_is_published_scores_like_the_weights_in_training_at_the_anchors_level(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    async with running(trainer_settings(home, redis_server.url), client) as run:
        await run.feed(*range(9))
        await run.told("candidate")
        await run.consumed()
    texts = [("q", "abab1"), ("q", "yzyz2"), ("other", "abyz")]
    first, made = (load(str(run.store.fetch(ModelRef(NAME, v)))) for v in (1, 2))
    ensemble = run.trainer._learning.ensemble
    trained_scores = ensemble.members.score([made.encode(*text) for text in texts]).numpy()
    served = made.score([made.encode(*text) for text in texts])
    offsets = served - trained_scores
    assert offsets == pytest.approx(offsets[:1].repeat(3, axis=0), abs=1e-6)
    held = [
        side
        for pair in run.trainer._stored.evidence.held
        for side in ((pair.prompt, pair.chosen), (pair.prompt, pair.rejected))
    ]
    means = [model.score([model.encode(*text) for text in held]) for model in (first, made)]
    assert means[1].mean(axis=0) == pytest.approx([means[0].mean()] * 2, abs=1e-6)


@pytest.mark.anyio
async def test_a_promotion_is_asked_for_and_the_trainer_goes_on_when_it_is_done(
    home: Path, redis_server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reward_trainer.gate.rules.LEAST_PAIRS", 1, raising=False)
    settings = trainer_settings(home, redis_server.url, promote="auto")
    async with running(settings, client) as run:
        await run.feed(*range(9))
        event = await run.told("candidate")
        if event["manual_only"]:
            run.trainer.state.wanted = 2  # too few pairs are held out here
        board = await has_promotion(run, "prepare")
        assert board.promotion is not None
        assert (board.promotion.version, board.promotion.by) == (2, "trainer")
        await serve(run, 2, by_person=False)
        await run.told("promoted")
        await run.feed(*range(9, 12))
        await run.consumed()
    state = run.trainer.state
    assert (state.serving, state.updates, state.parent, state.wanted) == (2, 4, 2, None)


@pytest.mark.anyio
async def test_a_refused_promotion_is_told_and_not_asked_for_again(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    async with running(trainer_settings(home, redis_server.url), client) as run:
        await run.feed(*range(9))
        await run.told("candidate")
        run.trainer.state.wanted = 2
        board = await has_promotion(run, "prepare")
        assert board.promotion is not None
        refused = board.promotion.model_copy(update={"state": "refused", "reason": "no memory"})
        assert await run.registry.swap(board, board.changed(promotion=refused))
        assert (await run.told("refused"))["reason"] == "no memory"
    assert run.trainer.state.wanted is None


@pytest.mark.anyio
async def test_after_a_foreign_promotion_it_starts_anew_from_what_is_served(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    other = 7
    async with running(trainer_settings(home, redis_server.url), client) as run:
        await run.feed(*range(9))
        await run.told("candidate")
        before = run.trainer.state.lineage
        save_model(home / "store", version=other)
        await serve(run, other, by_person=True)
        assert (await run.told("restarted"))["serving"] == f"toy@{other}"
        await run.consumed()
    state = run.trainer.state
    assert state.lineage != before
    assert (state.parent, state.serving, state.updates, state.passed) == (other, other, 0, [])
    assert run.store.aliases(NAME).candidate is None
    served = load(str(run.store.fetch(ModelRef(NAME, other))))
    for ours, theirs in zip(
        run.trainer._learning.ensemble.members.heads(), served.members.heads(), strict=True
    ):
        assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.anyio
async def test_a_rollback_between_two_looks_is_not_missed(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    async with running(trainer_settings(home, redis_server.url), client) as run:
        await run.feed(*range(9))
        await run.told("candidate")
        board = await run.registry.board()
        assert board is not None
        there = board.aliases.flipped(2, by_person=False)
        back = there.flipped(1, by_person=True).model_copy(update={"candidate": 2})
        assert await run.registry.swap(board, board.changed(aliases=back))
        assert (await run.told("restarted"))["serving"] == "toy@1"
        await run.consumed()
        await run.trainer._following.promote(2, epoch=0, swap_when="now")
        board = await run.registry.board()
    state = run.trainer.state
    assert (state.serving, state.epoch, state.passed, state.updates) == (1, 2, [], 0)
    assert board is not None
    assert (board.aliases.candidate, board.promotion) == (None, None)


@pytest.mark.anyio
async def test_a_version_that_passes_during_a_promotion_is_asked_for_after_it(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    async with running(trainer_settings(home, redis_server.url), client) as run:
        state = run.trainer.state
        state.passed, state.wanted = [2], 2
        await has_promotion(run, "prepare", 2)
        state.passed, state.wanted = [2, 3], 3
        await serve(run, 2, by_person=False)
        board = await has_promotion(run, "prepare", 3)
        assert board.promotion is not None
        state.passed, state.wanted = [2, 3, 4], 4
        refused = board.promotion.model_copy(update={"state": "refused", "reason": "no memory"})
        assert await run.registry.swap(board, board.changed(promotion=refused))
        assert (await run.told("refused"))["version"] == "toy@3"
        await has_promotion(run, "prepare", 4)
        assert state.wanted == 4


@pytest.mark.anyio
async def test_a_trainer_that_was_replaced_moves_no_alias(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    run = Running(trainer_settings(home, redis_server.url), client)
    following = run.trainer._following
    assert (await following.served()).version == 1
    before = await run.registry.board()
    await client.delete(LEASE)  # it was silent for too long
    assert await Lease(client, 30.0, lambda: 0).take()
    with pytest.raises(FencedError):
        await following.nominate(2)
    with pytest.raises(FencedError):
        await following.promote(2, 0, "now")
    assert await run.registry.board() == before
    assert run.store.aliases(NAME).candidate is None


@pytest.mark.anyio
async def test_a_pause_ends_when_a_version_of_its_own_is_promoted(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    async with running(trainer_settings(home, redis_server.url), client) as run:
        await run.feed(*range(9))
        await run.told("candidate")
        await run.consumed()
        state = run.trainer.state
        state.paused, state.rejections = "3 rejections in a row", 3
        await run.feed(*range(9, 12))
        await serve(run, 2, by_person=True)
        await run.told("promoted")
        await run.consumed()
    saved = _state(home)
    expected = {"paused": None, "rejections": 0, "serving": 2, "epoch": 1, "parent": 2}
    assert {**saved, **expected, "updates": 4} == saved


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ((1, 5), "none"),
        ((3, 6), "own"),
        ((4, 6), "own"),
        ((2, 6), "foreign"),
        ((9, 6), "foreign"),
        ((1, 7), "foreign"),  # there and back
        ((4, 7), "foreign"),  # and what was in between?
        ((1, 4), "foreign"),  # the store was behind what Redis has lost
    ],
)
def test_what_a_change_of_the_serving_version_means(served: tuple[int, int], expected: str) -> None:
    state = State(
        model=NAME,
        lineage="l",
        parent=4,
        serving=1,
        epoch=5,
        passed=[3, 4],
        last_id="0-0",
        intake=Intake(joining=Joining(k_max=2, join_span=2)),
        recipe="r",
    )
    assert meaning(state, Served(*served)) == expected
    if expected == "own":
        later = state.model_copy(update={"serving": 4})
        assert meaning(later, Served(3, 6)) == "foreign"  # a rollback among its own versions


@pytest.mark.anyio
async def test_rejected_versions_are_published_with_reasons_and_after_some_it_pauses(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    settings = trainer_settings(home, redis_server.url, learning_rate=3.0, max_rejections=2)
    async with running(settings, client) as run:
        await run.feed(*range(40))
        event = await run.told("rejected", times=2)
        assert event["reasons"]
        assert "2 rejections in a row" in (await run.told("paused"))["reason"]
        manifest = run.store.manifest(ModelRef(NAME, 2))
        assert (manifest.status, manifest.gate and manifest.gate["passed"]) == ("rejected", False)
        assert run.store.aliases(NAME).candidate is None
        state = run.trainer.state
        assert (state.parent, state.updates) == (1, 0)
        await run.consumed(40 - 18)
        await asyncio.sleep(0.5)  # it might go on
        left = await client.xlen(STREAM)
        assert left == 40 - 18
        assert len(read_jsonl(run.folder / "updates.jsonl")) == 6
    settings = trainer_settings(home, redis_server.url, learning_rate=3.0, max_rejections=2)
    async with running(settings, client) as run:
        await asyncio.sleep(0.5)
        assert await client.xlen(STREAM) == left  # a restart is no reason to go on
    resumed = trainer_settings(
        home, redis_server.url, learning_rate=3.0, max_rejections=2, resume=True
    )
    async with running(resumed, client) as run:
        await run.told("rejected", times=3)


@pytest.mark.anyio
async def test_an_update_that_is_not_finite_returns_to_the_parent(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    settings = trainer_settings(
        home, redis_server.url, learning_rate=1e30, optimizer="sgd", clip_norm=1e30
    )
    async with running(settings, client) as run:
        await run.feed(*range(20))
        assert "not finite" in (await run.told("returned"))["reason"]
    assert run.trainer.state.parent == 1


@pytest.mark.anyio
async def test_bad_samples_go_to_the_dead_letter_and_the_rest_goes_on(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    settings = trainer_settings(home, redis_server.url, policies=("ppo",))
    bad = [
        fields(sample(1, completions=["same"] * 4)),
        fields(sample(2, completions=["x" * 100_001, "y"])),
        {"schema": "7", "data": "{}"},
        fields(sample(3, policy="stranger")),
        {"b": "c"},
    ]
    async with running(settings, client) as run:
        ids = [await client.xadd(STREAM, entry) for entry in bad]  # type: ignore[arg-type]
        await run.feed(*range(3))
        await run.consumed()
    letters = {
        id_: json.loads(text)["reason"].partition(":")[0]
        for id_, text in (await client.hgetall("assay:samples:dead")).items()
    }
    reasons = ["equal completions", "too long", "other schema", "unknown policy", "other schema"]
    assert letters == dict(zip(ids, reasons, strict=True))
    assert len(read_jsonl(run.folder / "updates.jsonl")) == 1
    counted = run.metrics.registry.get_sample_value
    assert counted("reward_trainer_entries_total", {"outcome": "dead"}) == 5
    assert counted("reward_trainer_entries_total", {"outcome": "read"}) == 8


@pytest.mark.anyio
async def test_redis_wiped_is_rebuilt_from_the_store_and_numbers_are_not_given_twice(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    async with running(trainer_settings(home, redis_server.url), client) as run:
        await run.feed(*range(9))
        await run.told("candidate")
        await run.consumed()
        await client.flushall()
        await run.feed(*range(9, 18))

        async def three() -> bool:
            return len(run.store.versions(NAME)) == 3

        await eventually(three, "a third version")
        await run.consumed()
        board = await run.registry.board()
    assert run.store.versions(NAME) == [1, 2, 3]
    assert run.trainer.state.steps == 6
    assert board is not None
    assert board.aliases.serving == 1
    assert board.aliases == run.store.aliases(NAME)


@pytest.mark.anyio
async def test_other_pairs_or_another_rule_begin_a_lineage_from_what_is_served(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    async with running(trainer_settings(home, redis_server.url), client) as run:
        await run.feed(*range(6))
        await run.consumed()
    before = run.trainer.state
    changed = trainer_settings(home, redis_server.url, update_rule="joint")
    async with running(changed, client) as run:
        pass
    after = run.trainer.state
    assert after.lineage != before.lineage
    assert (after.updates, after.steps, after.parent) == (0, before.steps, 1)
    assert after.last_id == before.last_id


@pytest.mark.anyio
async def test_a_damaged_version_is_named(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    weights = home / "store" / NAME / "1" / "members" / "member_0" / "adapter_model.safetensors"
    weights.write_bytes(b"damaged")
    run = Running(trainer_settings(home, redis_server.url), client)
    with pytest.raises(ArtifactError, match="toy@1: .*adapter_model"):
        await run.trainer.run()


def test_preferences_that_are_missing_are_named(home: Path, redis_server: RedisServer) -> None:
    settings = trainer_settings(home, redis_server.url)
    with pytest.raises(DataError, match="no such file"):
        read_stored(settings, "nowhere.jsonl", Probe(settings.open_store(), NAME))


def test_a_second_trainer_takes_over_from_a_stopped_one_which_then_ends(
    home: Path, redis_server: RedisServer
) -> None:
    settings = trainer_settings(home, redis_server.url)
    trainers = [ForkedTrainer(settings)]
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        try:
            until(lambda: client.exists(STREAM), 240, "the first trainer")
            for number in range(9):
                client.xadd(STREAM, fields(trained(number)))
            until(lambda: len(read_jsonl(_updates(home))) >= 1, 120, "an update")
            trainers[0].send(signal.SIGSTOP)
            trainers.append(ForkedTrainer(settings))
            until(lambda: client.xlen(STREAM) == 0, 120, "the second trainer at the end")
            done = _state(home)
            trainers[0].send(signal.SIGCONT)
            assert trainers[0].wait() == 3
            assert _state(home) == done
            trainers[1].send(signal.SIGTERM)
            assert trainers[1].wait() == 0
        finally:
            for trainer in trainers:
                trainer.end()
    assert done["steps"] == 3
    assert Store(str(home / "store")).versions(NAME) == [1, 2]


@pytest.mark.anyio
async def test_a_second_trainer_waits_for_the_first_or_until_it_is_stopped(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    settings = trainer_settings(home, redis_server.url, lease_ttl_s=6.0)
    async with running(settings, client) as first:
        others = [Running(settings, client) for _ in range(2)]
        tasks = [asyncio.create_task(other.trainer.run()) for other in others]
        await renewed(client)
        assert await client.get(LEASE) == "1"
        others[0].trainer.stop()
        await asyncio.wait_for(tasks[0], LATE_S)
        assert await client.get(LEASE) == "1"
    await first.told("started", times=2)
    assert await client.get(LEASE) == "2"
    others[1].trainer.stop()
    await asyncio.wait_for(tasks[1], LATE_S)


async def renewed(client: Redis) -> None:
    """Return when the lease has been given more time."""
    left_ms = await client.pttl(LEASE)

    async def more() -> bool:
        nonlocal left_ms
        before_ms, left_ms = left_ms, await client.pttl(LEASE)
        return bool(left_ms > before_ms)

    await eventually(more, "a renewal")


@pytest.mark.anyio
async def test_what_a_killed_trainer_did_not_acknowledge_leaves_the_stream(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    settings = trainer_settings(home, redis_server.url)
    async with running(settings, client) as run:
        await run.feed(*range(3))
        await run.consumed()
    await client.delete(STREAM)
    await client.xadd(STREAM, fields(trained(2)), id=run.trainer.state.last_id)  # type: ignore[arg-type]
    async with running(settings, client) as run:
        await run.consumed()
    assert run.trainer.state.steps == 1


@pytest.mark.anyio
async def test_a_trainer_that_is_stopped_does_not_wait_for_redis(
    home: Path, redis_server: RedisServer, client: Redis
) -> None:
    run = Running(trainer_settings(home, redis_server.url), client)
    task = asyncio.create_task(run.trainer.run())
    await run.told("started")
    redis_server.kill()
    run.trainer.stop()
    with pytest.raises(DependencyError):
        await asyncio.wait_for(task, LATE_S)


def _updates(home: Path) -> Path:
    return home / "trainer" / NAME / "updates.jsonl"


def _state(home: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(home / "trainer" / NAME / "checkpoints")
    assert checkpoint is not None
    return checkpoint.state.model_dump()


async def has_promotion(run: Running, state: PromotionState, version: int = 2) -> Board:
    async def board() -> Board | None:
        board = await run.registry.board()
        found = board.promotion if board else None
        return board if found and (found.state, found.version) == (state, version) else None

    promoted: Board = await eventually(board, f"a promotion of {version}")
    return promoted


async def serve(run: Running, version: int, *, by_person: bool) -> None:
    """What replicas do at the end of a promotion."""
    board = await run.registry.board()
    assert board is not None
    promotion: Promotion | None = board.promotion
    if promotion is None:
        promotion = await propose(run.registry, version, "promote", "person", "now", 60.0)
        board = await run.registry.board()
        assert board is not None
    aliases = board.aliases.flipped(version, by_person=by_person)
    done = promotion.model_copy(update={"state": "done"})
    run.store.write_aliases(NAME, aliases)
    assert await run.registry.swap(board, board.changed(aliases=aliases, promotion=done))
