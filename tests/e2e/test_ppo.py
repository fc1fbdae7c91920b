"""The loop closed: PPO posts samples, the trainer publishes, the gate promotes, PPO goes on."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from online_trainer import make_home, read_jsonl, write_pairs
from ppo_runs import save_task
from ppo_worker.metrics import EVENTS, STEPS, Event, StepRecord, read_rows
from serving import free_port, started, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
ENOUGH = 11_000  # pairs, of which the gate wants 1500 held out, and 15 % are


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    settings = {"PUBLISH_UPDATES": 6, "PAIRS_PER_UPDATE": 4, "GROUPS_PER_UPDATE": 3}
    for name, value in {**settings, "LEARNING_RATE": 1e-4, "LEASE_TTL_S": 2}.items():
        monkeypatch.setenv(f"ASSAY_{name}", str(value))
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        yield make_home(Path(folder))


def test_a_policy_trains_on_under_the_version_that_its_own_samples_made(
    home: Path, tmp_path: Path
) -> None:
    write_pairs(home / "pairs.jsonl", ENOUGH)
    task = save_task(tmp_path)
    argv = ["assay", "up", "--home", str(home), "--model", "toy", "--promote", "auto"]
    argv += ["--preferences", str(home / "pairs.jsonl"), "--update-rule", "shared_moments"]
    with started(argv, free_port(), tmp_path) as server:
        server.wait_ready()
        run = tmp_path / "run"
        flags = {
            "policy": task / "policy",
            "prompts": task / "prompts.jsonl",
            "run": run,
            "url": server.url,
            "reward": "lcb",
            "steps": 100_000,
            "prompts-per-step": 4,
            "mini-batch": 8,
            "micro-batch": 8,
            "max-new-tokens": 12,
            "policy-learning-rate": 1e-4,
            "evaluate-steps": 1000,
            "torch-threads": 1,
        }
        argv = ["assay", "ppo", *(f"--{name}={value}" for name, value in flags.items())]
        with worker(argv, tmp_path) as process:
            rows = until(lambda: under_another(run, 3), 200, "steps under the version it made")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 130
    versions = [row.model_version for row in rows]
    assert versions[0] == "toy@1"
    # A prompt that was asked just before a switch stays behind for seconds: its batch may, too.
    newest = max(versions, key=lambda version: int(version.partition("@")[2]))
    told = read_jsonl(home / "trainer" / "toy" / "events.jsonl")
    made = {event["version"]: event for event in told if event["kind"] == "candidate"}
    assert made[newest]["promote"] == "auto"
    assert [event.kind for event in read_rows(run / EVENTS, Event)][:2] == ["baselines", "version"]
    assert "Traceback" not in server.output()


@contextlib.contextmanager
def worker(argv: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "ppo.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *argv], cwd=folder, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def under_another(run: Path, steps: int) -> list[StepRecord] | None:
    """All steps, once so many had another version than `toy@1`; records are finite figures."""
    rows = read_rows(run / STEPS, StepRecord)
    return rows if sum(row.model_version != "toy@1" for row in rows) >= steps else None
