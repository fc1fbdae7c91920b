"""Builds the fence and runs code in it: a program of its own, for `python -I -S -c`.

Reads a task as JSON on its standard input. Out of it come `!` and the output of the code, and the
exit status of the code, or 125 with one line on the standard error if the fence cannot be built.

Three processes: this one waits outside; the first process of a new process namespace waits inside,
so that its end is everybody's end; the third is the code.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

REFUSED = 125
STARTED = b"!"  # in front of the output: its time begins
_ROOT = "/sys"  # covered, in a mount namespace of our own, by the root that the code sees
_NOBODY = 65534
_NEW_MOUNTS, _NEW_UTS, _NEW_IPC = 0x00020000, 0x04000000, 0x08000000
_NEW_USER, _NEW_PIDS, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_BIND, _RECURSIVE, _PRIVATE, _NO_SUID, _NO_DEVICES = 0x1000, 0x4000, 0x40000, 2, 4
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _SET_FILTER, _FILTER = 1, 38, 22, 2
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_KILL, _REFUSE, _ALLOW = 0x80000000, 0x00050000 | errno.EPERM, 0x7FFF0000
_NUMBER_AT, _MACHINE_AT = 0, 4
_OTHER_NUMBERS = 0x40000000  # from here on: those of x32
# What holds memory that no limit of a process counts: shmget, semget, msgget, memfd_create,
# vmsplice (a page in a pipe keeps the huge page around it), bpf, io_uring_setup.
_REFUSED_CALLS = {
    "x86_64": (0xC000003E, (29, 64, 68, 319, 278, 321, 425)),
    "aarch64": (0xC00000B7, (194, 190, 186, 279, 75, 280, 425)),
}

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Fence off, run, wait; never returns."""
    task = json.load(sys.stdin)
    is_root = os.geteuid() == 0
    try:
        _unshare(is_root)
        _call("prctl", _DEATH_SIGNAL, signal.SIGKILL)
        _build_root(task)
        os.chroot(_ROOT)
        os.chdir("/work")
        inside = os.fork()
        if inside == 0:
            _call("prctl", _DEATH_SIGNAL, signal.SIGKILL)
            _refuse_calls(os.uname().machine)
            os.write(1, STARTED)
            code = os.fork()
            if code == 0:
                _become_code(task, is_root)
            _exit_like(code)
    except Exception as error:  # noqa: BLE001 - told to who waits outside
        about = getattr(error, "filename", None)
        why = getattr(error, "strerror", None) or repr(error)
        sys.stderr.write(f"{about}: {why}\n" if about else f"{why}\n")
        sys.stderr.flush()
        os._exit(REFUSED)
    _exit_like(inside)


def _unshare(is_root: bool) -> None:
    """Leave the namespaces of the machine; who is not root is root of a user namespace first."""
    apart = _NEW_MOUNTS | _NEW_UTS | _NEW_IPC | _NEW_PIDS | _NEW_NET
    if is_root:
        _call("unshare", apart)
        return
    user, group = os.geteuid(), os.getegid()
    _call("unshare", apart | _NEW_USER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{_NOBODY} {user} 1")
    _write("/proc/self/gid_map", f"{_NOBODY} {group} 1")


def _build_root(task: Mapping[str, Any]) -> None:
    """A small file system in memory: the interpreter to read, /work to write, nothing else."""
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    size = f"size={task['disk_bytes']},nr_inodes={task['disk_files']},mode=755"
    _mount("tmpfs", _ROOT, "tmpfs", _NO_SUID | _NO_DEVICES, size)
    for path in task["readable"]:
        _show(path)
    os.makedirs(f"{_ROOT}/dev", exist_ok=True)
    _show_device("/dev/null")
    os.mkdir(f"{_ROOT}/work")
    os.chmod(f"{_ROOT}/work", 0o777)  # noqa: S103 - who runs the code is nobody
    for name, text in task["files"].items():
        _write(f"{_ROOT}/work/{name}", text)


def _show(path: str) -> None:
    target = _ROOT + path
    if os.path.lexists(target) or not os.path.lexists(path):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.mkdir(target)
    else:
        _write(target, "")
    _mount(path, target, None, _BIND | _RECURSIVE)
    _make_read_only(target)


def _show_device(path: str) -> None:
    _write(_ROOT + path, "")
    _mount(path, _ROOT + path, None, _BIND)


def _make_read_only(target: str) -> None:
    read_only_no_suid_no_devices = (ctypes.c_uint64 * 4)(1 | _NO_SUID | _NO_DEVICES, 0, 0, 0)
    flags = ctypes.c_uint(_AT_RECURSIVE)
    size = ctypes.c_size_t(ctypes.sizeof(read_only_no_suid_no_devices))
    arguments = (
        _AT_FDCWD,
        target.encode(),
        flags,
        ctypes.byref(read_only_no_suid_no_devices),
        size,
    )
    _call("syscall", _MOUNT_SETATTR, *arguments, about=target)


def _refuse_calls(machine: str) -> None:
    """A seccomp filter for this process and all that it becomes; other ABIs' numbers end it."""
    if machine not in _REFUSED_CALLS:
        raise OSError(errno.ENOSYS, f"no filter of system calls is known for {machine}")
    audited_as, calls = _REFUSED_CALLS[machine]
    steps = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_IF_EQUAL, 0, 2, audited_as),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_AT_LEAST, 0, 1, _OTHER_NUMBERS),
        (_RETURN, 0, 0, _KILL),
        *((_IF_EQUAL, len(calls) - row, 0, call) for row, call in enumerate(calls)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HP", len(steps), ctypes.addressof(code))
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _call("prctl", _SET_FILTER, _FILTER, program, about="seccomp")


def _become_code(task: Mapping[str, Any], is_root: bool) -> NoReturn:
    """Give up everything that the code shall not have, and turn into it."""
    try:
        os.dup2(os.open("/work/.input", os.O_RDONLY), 0)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        os.closerange(3, 256)
        for limit, most in task["limits"].items():
            resource.setrlimit(getattr(resource, limit), (most, most))
        if is_root:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))  # itself: no process, no thread beside it
        os.execve(task["python"], [task["python"], *task["arguments"]], task["environment"])  # noqa: S606
    except OSError:
        os._exit(REFUSED)


def _exit_like(child: int) -> NoReturn:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 1)


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _call("mount", *encoded[:3], ctypes.c_ulong(flags), encoded[3], about=target)


def _call(function: str, *arguments: Any, about: str | None = None) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"{function} {about}" if about else function)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(text)


if __name__ == "__main__":
    main()
