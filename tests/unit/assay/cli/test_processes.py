from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from assay.cli.processes import Child, Interrupts, wait
from serving import until

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], process_group=0)
print(child.pid, flush=True)
time.sleep(60)
"""


def grandchild(output: Path) -> psutil.Process:
    return psutil.Process(int(until(output.read_text, 10, "the pid of the grandchild")))


@pytest.mark.skipif(sys.platform != "linux", reason="sessions are read from /proc")
def test_end_leaves_nothing_of_a_child_that_ignores_signals(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file:
        child = Child([sys.executable, "-c", STUBBORN], output=file)
    left = grandchild(output)
    child.end(timeout_s=0.2)
    assert child.exit_code() == -signal.SIGKILL
    _, alive = psutil.wait_procs([left], timeout=5)
    assert not alive


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_child_is_asked_to_end_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = """
import sys, time
from assay.cli.processes import Child
print(Child([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""
    output = tmp_path / "output"
    with output.open("wb") as file:
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=file)
    child = grandchild(output)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs([child], timeout=5)
    assert not alive


def test_interrupts_are_passed_on_and_the_third_kills() -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts = Interrupts()
    script = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    child = Child([sys.executable, "-c", script])
    try:
        for rounds, _ in enumerate(wait(child, interrupts), start=1):
            if rounds % 3 == 0:
                signal.raise_signal(signal.SIGINT)
    finally:
        child.kill()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert interrupts.count == 3
    assert child.exit_code() == -signal.SIGKILL
