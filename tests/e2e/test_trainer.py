"""`assay up` with a trainer: samples over HTTP become a version that is served, and rolled back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from online_trainer import make_home, read_jsonl, sample
from serving import LATE_S, Server, free_port, score_body, started, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    settings = {"PUBLISH_UPDATES": 3, "PAIRS_PER_UPDATE": 4, "GROUPS_PER_UPDATE": 3}
    for name, value in {**settings, "LEARNING_RATE": 3e-4, "LEASE_TTL_S": 2}.items():
        monkeypatch.setenv(f"ASSAY_{name}", str(value))
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        yield make_home(Path(folder))


def trainer(server: Server) -> psutil.Process | None:
    found = [child for child in server.descendants() if "reward_trainer" in child.cmdline()]
    return found[0] if found else None


def told(home: Path, kind: str) -> int:
    events = read_jsonl(home / "trainer" / "toy" / "events.jsonl")
    return sum(event["kind"] == kind for event in events)


def post(server: Server, numbers: range) -> None:
    items = [sample(number).model_dump(exclude_unset=True) for number in numbers]
    reply = httpx.post(f"{server.url}/v1/samples", json={"items": items}, timeout=LATE_S)
    assert reply.status_code == 202, reply.text


def score(server: Server) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/score", json=score_body(["a"]), timeout=LATE_S)


def test_samples_become_a_version_and_a_killed_trainer_goes_on(home: Path, tmp_path: Path) -> None:
    argv = ["assay", "up", "--home", str(home), "--model", "toy"]
    argv += ["--preferences", str(home / "pairs.jsonl"), "--update-rule", "shared_moments"]
    with started(argv, free_port(), tmp_path) as server:
        server.wait_ready()
        until(lambda: told(home, "started"), LATE_S, "a trainer that has started")
        post(server, range(8))
        first = trainer(server)
        assert first is not None
        first.kill()
        assert score(server).status_code == 200
        until(lambda: told(home, "started") > 1, LATE_S, "another trainer")
        assert "the trainer ended with code -9" in server.output()
        post(server, range(8, 20))
        until(lambda: told(home, "candidate"), LATE_S, "a candidate")

        promoted = httpx.post(
            f"{server.url}/v1/models/toy@2/promote", params={"wait_s": 60}, timeout=LATE_S
        )
        assert promoted.status_code == 200, promoted.text
        assert score(server).json()["model"] == "toy@2"
        until(lambda: told(home, "promoted"), LATE_S, "a trainer that knows of it")
        back = httpx.post(
            f"{server.url}/v1/models/toy/rollback", params={"wait_s": 60}, timeout=LATE_S
        )
        assert back.status_code == 200, back.text
        until(lambda: told(home, "restarted"), LATE_S, "a trainer that starts anew")

        descendants = server.descendants()
        server.interrupt_group()
        assert server.process.wait(LATE_S) == 0
        server.check_gone(descendants)
        assert "Traceback" not in server.output()
