"""Running Python code that nobody trusts: Linux namespaces and resource limits around a process.

The code sees an empty network, no process but its own, no environment of ours, and a file system of
its own in memory, with the interpreter and its libraries read-only. It may start neither processes
nor threads, and has no system call for memory outside its address space, such as System V shared
memory, which bounds its memory as a whole. What this does not fence off are faults of the kernel
itself: where those matter, run the server in a virtual machine.
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
_START_S = 30.0
_DISK_BYTES = 16 * 2**20
_DISK_FILES = 1024
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_ENVIRONMENT = {"PATH": "", "HOME": "/work", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}


class Limits(NamedTuple):
    """What code may use up: CPU seconds, seconds by the clock from its start, memory, output."""

    cpu_s: float
    wall_s: float
    memory_bytes: int
    output_bytes: int = 65536


class Run(NamedTuple):
    """What came out.

    Attributes:
        text: what it printed.
        finished: True = it ended by itself, with exit status 0 and within the limits.
        wall_s: how long it ran by the clock; building the fence is not counted.
    """

    text: str
    finished: bool
    wall_s: float


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
    process = _launch(_task(code, files, stdin, limits))
    try:
        mark, _ = _read(_pipe(process.stdout), time.monotonic() + _START_S, 1)
        started_s = time.monotonic()
        ends_s = started_s + limits.wall_s
        output, is_whole = _read(_pipe(process.stdout), ends_s, limits.output_bytes)
        wall_s = time.monotonic() - started_s
        if is_whole:
            process.wait()
    finally:
        process.kill()
        with process:
            reason = _pipe(process.stderr).read().decode(errors="replace").strip()
    if not mark:
        reason = reason.splitlines()[-1] if reason else f"it took over {_START_S:g} s"
        raise SandboxError(f"code cannot be fenced off on this machine: {reason}")
    return Run(output.decode(errors="replace"), is_whole and process.returncode == 0, wall_s)


@functools.cache
def check_sandbox() -> None:
    """Build the fence once around a harmless program.

    Raises:
        SandboxError: it cannot be built here.
    """
    if sys.platform != "linux":
        raise SandboxError(f"code cannot be fenced off on {sys.platform}: Linux is needed")
    limits = Limits(cpu_s=10.0, wall_s=_START_S, memory_bytes=128 * 2**20)
    run = run_python("print(1)", {}, "", limits)
    if (run.text, run.finished) != ("1\n", True):
        raise SandboxError("code cannot be fenced off on this machine: Python does not run inside")


def _task(code: str, files: Mapping[str, str], stdin: str, limits: Limits) -> bytes:
    base = Path(sys.base_prefix)
    python = _python()
    return json.dumps(
        {
            "python": python,
            "arguments": ["-I", "-S", "-B", "/work/.main.py"],
            "environment": _ENVIRONMENT,
            "files": {**files, ".main.py": code, ".input": stdin},
            "readable": [python, *(str(base / name) for name in ("lib", "lib64")), *_LIBRARIES],
            "disk_bytes": _DISK_BYTES,
            "disk_files": _DISK_FILES,
            "limits": {
                "RLIMIT_CPU": math.ceil(limits.cpu_s),
                "RLIMIT_AS": limits.memory_bytes,
                "RLIMIT_FSIZE": 2**20,
                "RLIMIT_NOFILE": 32,
                "RLIMIT_CORE": 0,
                "RLIMIT_MEMLOCK": 0,
                "RLIMIT_MSGQUEUE": 0,
            },
        }
    ).encode()


def _python() -> str:
    """The interpreter itself: what a virtual environment has is a link to it, or a copy."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _launch(task: bytes) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603 - our own launcher
        [_python(), "-I", "-S", "-c", _LAUNCHER.read_text()],
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
    """At most so much of what comes before the deadline, and whether the output has ended."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    output = b""
    while len(output) < most:
        left_s = ends_s - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            return output, False
        data = os.read(pipe.fileno(), most - len(output))
        if not data:
            return output, True
        output += data
    return output, False
