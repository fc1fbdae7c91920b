"""One process that runs rules, from outside: it is asked, waited for, and ended if it hangs.

A thread could do neither: a pattern of `re` that backtracks for ever holds Python's lock, so that
the event loop would stand still, and no thread can be ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from assay.errors import StartupError

if TYPE_CHECKING:
    from reward_server.composite.plan import RuleSpec

_START_S = 60.0

Outcome = Literal["scored", "none", "failed", "timeout"]


class Call(NamedTuple):
    """What a rule is given."""

    prompt: str
    completion: str
    label: object


class Verdict(NamedTuple):
    """What became of a call; the reason of a failure repeats nothing of the texts."""

    outcome: Outcome
    value: float | None = None
    reason: str = ""


class RuleProcess:
    """Runs the rules of one composite, one call at a time. Used by one thread at a time."""

    def __init__(self, rules: Sequence[RuleSpec]) -> None:
        specs = [{"rule": rule.rule, "options": rule.options} for rule in rules]
        self._specs = json.dumps(specs).encode() + b"\n"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and load the rules.

        Raises:
            StartupError: a rule does not load, or cannot do its work on this machine.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "reward_server.composite.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the server
        )
        line = self._exchange(self._specs, _START_S)
        answer = json.loads(line) if line else {"error": "their process does not start"}
        if "error" in answer:
            self.kill()
            raise StartupError(f"components: {answer['error']}")

    def call(self, rule: int, call: Call, timeout_s: float) -> Verdict:
        """Run a rule; one that hangs or ends its process has a new process for the next call."""
        if self._process is None:
            try:
                self.start()
            except StartupError as error:
                return Verdict("failed", reason=error.detail)
        request = json.dumps({"rule": rule, **call._asdict()}).encode() + b"\n"
        line = self._exchange(request, timeout_s)
        if line is None:
            self.kill()
            return Verdict("timeout", reason="it was not done in time")
        if not line:
            self.kill()
            return Verdict("failed", reason="it ended its process")
        return _verdict(json.loads(line))

    def kill(self) -> None:
        """End it, and what its rules have started."""
        self.interrupt()
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError), self._process:
                pass  # closes the pipes and waits
            self._process = None

    def interrupt(self) -> None:
        """Cut short a call that another thread waits for; that thread then cleans up."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _exchange(self, request: bytes, timeout_s: float) -> bytes | None:
        """One line for another; None = it did not come in time, empty = the process ended."""
        process = self._process
        assert process is not None  # noqa: S101 - the caller has started it
        assert process.stdin is not None  # noqa: S101 - it was asked for
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        return _read_line(process.stdout, time.monotonic() + timeout_s)


def _read_line(pipe: IO[bytes], ends_s: float) -> bytes | None:
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    line = b""
    while not line.endswith(b"\n"):
        left_s = ends_s - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            return None
        data = os.read(pipe.fileno(), 65536)
        if not data:
            return b""
        line += data
    return line


def _verdict(answer: dict[str, Any]) -> Verdict:
    if "failed" in answer:
        return Verdict("failed", reason=answer["failed"])
    if answer["value"] is None:
        return Verdict("none")
    return Verdict("scored", answer["value"])
