"""Child processes of a command: apart from the terminal, ended in order, never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

_POLL_S = 0.1
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Redis and our servers end in order on either signal, but Ray, while it starts, answers SIGTERM
# with a stack trace.
_END = signal.SIGINT


class Child:
    """One child process with whatever it starts itself.

    It gets a session of its own, so that Ctrl-C reaches it only through us, in order. Should we be
    killed, it is asked to end as well (Linux).
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        output: IO[bytes] | None = None,
        inherited: Sequence[int] = (),
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own commands
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=inherited,
            preexec_fn=_prepare,
        )

    @property
    def pid(self) -> int:
        """Process id, also the id of the session."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.send_signal(_END)

    def end(self, timeout_s: float) -> None:
        """Ask it to end, and see to it that nothing of it is left."""
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End it and all that it started, at once."""
        for pid in _session(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()


class Interrupts:
    """Counts Ctrl-C and SIGTERM, in place of what they do otherwise."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: object) -> None:
        self.count += 1


def wait(child: Child, interrupts: Interrupts) -> Iterator[None]:
    """Yield several times a second until the child has ended.

    Interrupts are passed on: the first asks the child to drain, the second to end, the third kills.
    """
    passed_on = 0
    while child.exit_code() is None:
        if interrupts.count > passed_on:
            passed_on += 1
            child.terminate() if passed_on < 3 else child.kill()
        yield
        time.sleep(_POLL_S)


def _prepare() -> None:
    """In the child: let it be ended, and have it asked to end when we are killed."""
    signal.signal(_END, signal.SIG_DFL)  # a shell's background job would pass on "ignored"
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _END)


def _session(session: int) -> list[int]:
    """All processes of a session: Ray's workers have process groups of their own."""
    if not Path("/proc/self/stat").exists():
        return []
    return [
        int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _session_of(entry) == session
    ]


def _session_of(entry: Path) -> int | None:
    try:
        # The name, in parentheses, may hold spaces; after it: state, parent, group, session.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):
        return None
