"""`assay ppo --demo` as its user runs it, against what it is meant to reach; takes minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ppo_worker.metrics import EVALUATIONS, EVENTS, Evaluation, Event, read_rows
from ppo_worker.report import REPORT
from serving import Server

pytestmark = [pytest.mark.e2e, pytest.mark.demo, pytest.mark.timeout(3600)]

GAIN, LENGTH, KL = 0.5, 1.3, 12.0  # std of the base policy's scores, times its length, nats


@pytest.mark.parametrize("seed", [0, 1])
def test_the_demo_gains_on_held_out_prompts_at_its_length_and_near_the_base_policy(
    up: Server, tmp_path: Path, seed: int
) -> None:
    run = tmp_path / "run"
    flags = ["--demo", f"--url={up.url}", f"--run={run}", f"--seed={seed}"]
    subprocess.run([sys.executable, "-m", "assay", "ppo", *flags], check=True)
    subprocess.run([sys.executable, "-m", "assay", "ppo", "report", str(run)], check=True)

    last = read_rows(run / EVALUATIONS, Evaluation)[-1]
    assert last.gain is not None
    assert last.gain >= GAIN
    assert 1 / LENGTH <= last.length / last.base_length <= LENGTH
    assert 0 < last.kl <= KL
    kinds = [event.kind for event in read_rows(run / EVENTS, Event)]
    assert kinds == ["baselines"]  # no warning, and no wait
    assert (run / REPORT).stat().st_size > 10_000
