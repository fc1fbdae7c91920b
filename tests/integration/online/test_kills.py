"""kill -9 at every point, and at any moment: the end is that of a run that nobody disturbed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, get_args

import pytest
import redis
import torch

from assay.streams.samples import STREAM
from online_trainer import ForkedTrainer, fields, make_home, read_jsonl, sample, trainer_settings
from redis_server import RedisServer
from reward_trainer.gate.data import is_held_group
from reward_trainer.online.checkpoint import read_checkpoint
from reward_trainer.online.crash import CrashPoint
from reward_trainer.online.lease import LEASE
from reward_trainer.online.state import State
from reward_trainer.online.stream import DEAD
from serving import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
torch.set_num_threads(1)

_LATE_S = 240.0
_FIRST_MS = 1_700_000_000_000
_BY_LEASE = {"token", "saves"}  # of the trainers, not of what they did
_DRAFT = re.compile(r"\.(\d+|aliases\.json)\.[0-9a-f]{8}\.tmp")  # a killed writer may leave it


class Outcome(NamedTuple):
    """Everything that a run leaves behind."""

    state: State
    tensors: dict[str, Any]
    files: set[str]
    manifests: dict[str, dict[str, Any]]
    aliases: dict[str, Any]
    dead: dict[str, Any]
    reserved: set[str]


class Scene:
    """One Redis, and a home folder whose trainer has begun and read nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.server = RedisServer(folder)
        self.server.start()
        self.client = redis.Redis(unix_socket_path=str(self.server.socket), decode_responses=True)
        make_home(folder / "first")
        trainer = ForkedTrainer(trainer_settings(folder / "first", self.server.url))
        until(lambda: self.client.exists(STREAM), _LATE_S, "a trainer that reads")
        trainer.send(signal.SIGTERM)
        assert trainer.wait() == 0

    def home(self, name: str) -> Path:
        """A copy of that folder, and a stream with everything in it that can come."""
        self.client.flushall()
        for number, entry in enumerate(_entries()):
            self.client.xadd(STREAM, entry, id=f"{_FIRST_MS + number}-0")  # type: ignore[arg-type]
        return Path(shutil.copytree(self._folder / "first", self._folder / name))

    def expire(self) -> None:
        """Let the time of a killed trainer's lease be over."""
        self.client.delete(LEASE)

    def finish(self, home: Path) -> Outcome:
        """Let a trainer go on to the end of the stream."""
        self.expire()
        before = _starts(home)
        trainer = ForkedTrainer(trainer_settings(home, self.server.url))
        try:
            until(lambda: _starts(home) > before and self.is_done(), _LATE_S, "the stream's end")
            trainer.send(signal.SIGTERM)
            assert trainer.wait() == 0
        finally:
            trainer.end()
        return self.outcome(home)

    def is_done(self) -> bool:
        return self.client.xlen(STREAM) == 0

    def outcome(self, home: Path) -> Outcome:
        checkpoint = read_checkpoint(home / "trainer" / "toy" / "checkpoints")
        assert checkpoint is not None
        model = home / "store" / "toy"
        return Outcome(
            state=checkpoint.state,
            tensors=checkpoint.tensors,
            files={path.name for path in model.iterdir() if not _DRAFT.fullmatch(path.name)},
            manifests={
                path.name: json.loads((path / "manifest.json").read_text())
                for path in model.glob("[0-9]*")
            },
            aliases=json.loads((model / "aliases.json").read_text()),
            dead=dict(self.client.hgetall(DEAD)),  # type: ignore[arg-type]
            reserved={path.name for path in (model / "reserved").glob("[0-9]*")},
        )


def _has_started(home: Path, before: int) -> bool:
    return _starts(home) > before


def _starts(home: Path) -> int:
    events = read_jsonl(home / "trainer" / "toy" / "events.jsonl")
    return sum(event["kind"] == "started" for event in events)


def _entries() -> list[dict[str, str]]:
    """Groups, single completions to join, and one of each kind that goes to the dead letter."""
    groups = [fields(sample(number)) for number in range(29)]
    free = next(prompt for n in range(100) if not is_held_group(prompt := f"three updates {n}"))
    groups.insert(0, fields(sample(50, k=36, prompt=free)))
    words = ["amber and ash", "birch", "cedar wood", "a dogwood"]
    singles = [
        fields(sample(90 + number % 2, completions=[words[number // 2]], step=1))
        for number in range(8)
    ]
    singles[0] = fields(sample(95, k=1))
    entries = groups[:13] + singles + groups[13:]
    entries[4:4] = [{"schema": "2", "data": "{}"}]
    entries[20:20] = [fields(sample(7, completions=["same", "same"]))]
    return [*entries, fields(sample(99, k=1))]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        made = Scene(Path(folder))
        yield made
        made.client.close()
        made.server.stop()


@pytest.fixture(scope="module")
def undisturbed(scene: Scene) -> Outcome:
    return scene.finish(scene.home("undisturbed"))


def assert_same(found: Outcome, expected: Outcome) -> None:
    assert found.state.model_dump(exclude=_BY_LEASE) == expected.state.model_dump(exclude=_BY_LEASE)
    assert_equal_tensors(found.tensors, expected.tensors)
    assert found.manifests.keys() == expected.manifests.keys()
    for version, manifest in found.manifests.items():
        assert _differing(manifest, expected.manifests[version]) == {}
    assert found._replace(state=expected.state, tensors={}) == expected._replace(tensors={})


def _differing(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    keys = found.keys() | expected.keys()
    return {
        key: (found.get(key), expected.get(key))
        for key in keys
        if found.get(key) != expected.get(key)
    }


def assert_equal_tensors(found: Any, expected: Any) -> None:
    """Bit for bit, in containers of any depth."""
    assert type(found) is type(expected)
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(found, dict):
        assert found.keys() == expected.keys()
        for key in found:
            assert_equal_tensors(found[key], expected[key])
    elif isinstance(found, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal_tensors(one, other)
    else:
        assert found == expected


def test_the_undisturbed_run_has_seen_everything(undisturbed: Outcome) -> None:
    state = undisturbed.state
    assert state.last_id == f"{_FIRST_MS + len(_entries()) - 1}-0"
    assert state.steps >= 8
    assert {manifest["status"] for manifest in undisturbed.manifests.values()} >= {
        "released",
        "candidate",
        "rejected",
    }
    assert len(undisturbed.dead) == 4
    assert set(state.intake.dead) == {"other schema", "equal completions", "alone"}
    assert len(state.intake.joining.pending) == 1
    assert undisturbed.reserved == set(undisturbed.manifests) - {"1"}
    others = {"aliases.json", "reserved", "identities", ".lock"}
    assert undisturbed.files == {*undisturbed.manifests, *others}


@pytest.mark.parametrize("point", get_args(CrashPoint))
def test_killed_at_a_named_point(point: str, scene: Scene, undisturbed: Outcome) -> None:
    home = scene.home(point)
    settings = trainer_settings(home, scene.server.url, crash_at=f"{point}:2")
    trainer = ForkedTrainer(settings)
    assert trainer.wait() == -signal.SIGKILL
    assert_same(scene.finish(home), undisturbed)


def test_killed_ten_times_at_any_moment(scene: Scene, undisturbed: Outcome) -> None:
    home = scene.home("any")
    random = Random(5)
    for number in range(10):
        before = _starts(home)
        trainer = ForkedTrainer(trainer_settings(home, scene.server.url))
        if number % 2:
            until(partial(_has_started, home, before), _LATE_S, "a trainer that reads")
        time.sleep(random.uniform(0, 0.8))
        trainer.end()
        scene.expire()
    assert_same(scene.finish(home), undisturbed)


def test_redis_killed_on_the_way(scene: Scene, undisturbed: Outcome) -> None:
    home = scene.home("redis")
    trainer = ForkedTrainer(trainer_settings(home, scene.server.url))
    full = scene.client.xlen(STREAM)
    until(lambda: scene.client.xlen(STREAM) < full - 8, _LATE_S, "some updates")
    scene.server.kill()
    time.sleep(0.5)
    scene.server.start()
    try:
        until(scene.is_done, _LATE_S, "the stream's end")
    finally:
        trainer.send(signal.SIGTERM)
        assert trainer.wait() == 0
    assert_same(scene.outcome(home), undisturbed)
