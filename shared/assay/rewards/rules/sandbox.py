"""Running Python code that nobody trusts: Linux namespaces and resource limits around a process.

The code sees an empty network, no process but its own, no environment of ours, and a file system of
its own in memory, with the interpreter and its libraries read-only. It may start neither processes
nor threads, which bounds its memory as a whole. What this does not fence off are faults of the
kernel itself: where those matter, run the server in a virtual machine.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

_LAUNCHER = Path(__file__).with_name("sandbox_launcher.py")
_REFUSED = 125
_PROBE_S = 20.0
_DISK_BYTES = 16 * 2**20
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_ENVIRONMENT = {"PATH": "", "HOME": "/work", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}


class Limits(NamedTuple):
    """What code may use up: wall-clock and CPU time, address space, output."""

    time_s: float
    memory_bytes: int
    output_bytes: int = 65536


class Run(NamedTuple):
    """What came out; `finished` = it ended by itself, with exit status 0 and within the limits."""

    text: str
    finished: bool


class SandboxError(Exception):
    """The fence cannot be built on this machine, and why."""


def run_python(code: str, files: Mapping[str, str], stdin: str, limits: Limits) -> Run:
    """Run a program and return what it printed, at most `output_bytes` of it.

    Args:
        code: the program.
        files: name to text of files in its working directory.
        stdin: what it can read on its standard input.
        limits: beyond them it is ended.

    Raises:
        SandboxError: it was not run, as the limits cannot be enforced here.
    """
    ends_s = time.monotonic() + limits.time_s
    process = _launch(_task(code, files, stdin, limits))
    try:
        output, is_whole = _read(_pipe(process.stdout), ends_s, limits.output_bytes)
        if is_whole:
            process.wait()
    finally:
        process.kill()
        with process:
            reason = _pipe(process.stderr).read().decode(errors="replace").strip()
    if process.returncode == _REFUSED and reason:
        raise SandboxError(f"code cannot be fenced off on this machine: {reason}")
    return Run(output.decode(errors="replace"), is_whole and process.returncode == 0)


@functools.cache
def check_sandbox() -> None:
    """Build the fence once around a harmless program.

    Raises:
        SandboxError: it cannot be built here.
    """
    if sys.platform != "linux":
        raise SandboxError(f"code cannot be fenced off on {sys.platform}: Linux is needed")
    limits = Limits(time_s=_PROBE_S, memory_bytes=128 * 2**20)
    if run_python("print(1)", {}, "", limits) != Run("1\n", finished=True):
        raise SandboxError("code cannot be fenced off on this machine: Python does not run inside")


def _task(code: str, files: Mapping[str, str], stdin: str, limits: Limits) -> bytes:
    base = Path(sys.base_prefix)
    python = os.path.realpath(sys._base_executable)
    return json.dumps(
        {
            "python": python,
            "arguments": ["-I", "-S", "-B", "/work/.main.py"],
            "environment": _ENVIRONMENT,
            "files": {**files, ".main.py": code, ".input": stdin},
            "readable": [python, *(str(base / name) for name in ("lib", "lib64")), *_LIBRARIES],
            "disk_bytes": _DISK_BYTES,
            "limits": {
                "RLIMIT_CPU": math.ceil(limits.time_s),
                "RLIMIT_AS": limits.memory_bytes,
                "RLIMIT_FSIZE": 2**20,
                "RLIMIT_NOFILE": 32,
                "RLIMIT_CORE": 0,
                "RLIMIT_MEMLOCK": 0,
                "RLIMIT_MSGQUEUE": 0,
            },
        }
    ).encode()


def _launch(task: bytes) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603 - our own launcher
        [os.path.realpath(sys._base_executable), "-I", "-S", "-c", _LAUNCHER.read_text()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        cwd="/",
        start_new_session=True,
    )
    with contextlib.suppress(BrokenPipeError), _pipe(process.stdin) as pipe:
        pipe.write(task)
    return process


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - all three were asked for
    return pipe


def _read(pipe: IO[bytes], ends_s: float, most: int) -> tuple[bytes, bool]:
    """What comes before the end, the deadline or the limit, and whether it is everything."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    output = b""
    while len(output) <= most:
        left_s = ends_s - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            return output[:most], False
        data = os.read(pipe.fileno(), 65536)
        if not data:
            return output, True
        output += data
    return output[:most], False
