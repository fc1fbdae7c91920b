"""Code execution against tests: what passes, and what hostile code gains by which trick."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

import pytest

from assay.rewards.rules import sandbox_launcher
from assay.rewards.rules.code_tests import CodeTests, extract_code
from assay.rewards.rules.sandbox import Limits, SandboxError, check_sandbox, run_python

LIMITS = Limits(cpu_s=10.0, wall_s=30.0, memory_bytes=256 * 2**20)
ADD = "def add(a, b):\n    return a + b\n"
CALLS = [{"call": "add(1, 2)", "returns": 3}, {"call": "add('a', 'b')", "returns": "ab"}]
ECHO = [{"input": "3\n", "output": "6"}, {"input": "5", "output": "10\n"}]


def refusal() -> str:
    try:
        check_sandbox()
    except SandboxError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(refusal()), reason=refusal())


def run(code: str, wall_s: float = 30.0) -> tuple[str, bool]:
    """What it printed, and whether it finished."""
    made = run_python(code, {}, "", LIMITS._replace(wall_s=wall_s))
    return made.text, made.finished


@pytest.mark.parametrize(
    ("code", "tests", "share"),
    [
        (ADD, CALLS, 1.0),
        ("def add(a, b):\n    return 3", CALLS, 0.5),
        ("def add(a, b):\n    raise SystemError", CALLS, 0.0),
        ("def add(a, b)", CALLS, 0.0),
        ("print(int(input()) * 2)", ECHO, 1.0),
        ("print(7)", ECHO, 0.0),
        ("print(6)", ECHO, 0.5),
        (
            "def f():\n    return {'a': (1, 2.0000000001)}",
            [{"call": "f()", "returns": {"a": [1, 2]}}],
            1.0,
        ),
        ("def f():\n    return 10**9 + 1", [{"call": "f()", "returns": 10**9}], 0.0),
        ("def f():\n    return 1e9 + 1", [{"call": "f()", "returns": 10**9}], 1.0),
        ("def f():\n    return 10**400", [{"call": "f()", "returns": 1.5}], 0.0),
        ("def f():\n    return True", [{"call": "f()", "returns": 1}], 0.0),
        ("def f():\n    return {1}", [{"call": "f()", "returns": [1]}], 0.0),  # no JSON
        ("def f():\n    return None", [{"call": "f()", "returns": None}], 1.0),
    ],
)
def test_the_share_of_tests_that_pass(
    code: str, tests: list[dict[str, object]], share: float
) -> None:
    assert CodeTests(partial=True)("p", code, tests) == share
    assert CodeTests()("p", f"Here:\n```python\n{code}\n```\nDone.", tests) == float(share == 1.0)


@pytest.mark.parametrize(
    "trick",
    [
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "print('2 passed')\nraise SystemExit",
        "import json\njson.dumps = lambda _: '{\"value\": 3}'\ndef add(a, b): return 0",
        "class Any:\n    __eq__ = lambda *_: True\ndef add(a, b): return Any()",
        "import os\nfor fd in range(3, 9):\n    try: os.write(fd, b'{\"value\": true}\\n' * 2)\n"
        "    except OSError: pass\ndef add(a, b): return 0",
        "import os\nwhile True:\n    os.close(1)",
    ],
)
def test_a_faked_success_is_a_failure(trick: str) -> None:
    assert CodeTests()("p", trick, CALLS) == 0.0
    assert CodeTests()("p", trick, ECHO) == 0.0


def test_labels_that_hold_no_tests() -> None:
    assert CodeTests()("p", ADD, None) is None
    for label in (
        [],
        "assert add(1, 2) == 3",
        [{"call": "f()"}],
        [*CALLS, *ECHO],
        [CALLS[0]] * 101,
    ):
        with pytest.raises(ValueError, match="the label is no list of"):
            CodeTests()("p", ADD, label)


def test_the_last_fenced_block_is_the_code() -> None:
    assert extract_code("```py\na\n```\nbetter:\n``` \nb\n```") == "b\n"
    assert extract_code("just code") == "just code"


@pytest.mark.parametrize("language", ["bash", "JSON", "text", "c++", "sh title=run.sh"])
def test_blocks_in_other_languages_are_no_code(language: str) -> None:
    other = f"```{language}\nother\n```\n"
    python = "```Python\nright\n```\n"
    assert extract_code(f"Run:\n{other}then\n{python}") == "right\n"
    assert extract_code(f"{python}prints\n{other}") == "right\n"


def test_a_block_ends_at_a_line_of_as_many_backticks() -> None:
    assert extract_code("````py\n```\na\n````\nend") == "```\na\n"
    assert extract_code("  ```python\r\na\r\n  ```\r\n") == "a\r\n"
    assert extract_code('```py\nx = "```"\n    ```\n```') == 'x = "```"\n    ```\n'
    for text in ("", "```", "```py\na", "use ```x``` here", "```x```\na\n```"):
        assert extract_code(text) == text


@pytest.mark.parametrize("text", ["```" + " " * 10**6 + "`", "```\n" * 499_999, "`" * 2 * 10**6])
def test_fences_made_to_take_long_are_read_at_once(text: str) -> None:
    extract_code(text)  # would take minutes if the time grew with the square of the length
    assert CodeTests()("p", text + ADD * 10**5, CALLS) == 0.0


def test_an_infinite_loop_and_a_long_sleep_end_with_the_time() -> None:
    for code in ("while True: pass", "import time\ntime.sleep(600)"):
        assert run(code, wall_s=0.5) == ("", False)


def test_a_fork_bomb_starts_no_process_and_no_thread() -> None:
    code = """
import os, threading
for start in (os.fork, threading.Thread(target=print).start):
    try:
        start()
        print("started")
    except (OSError, RuntimeError):
        print("refused")
"""
    assert run(code) == ("refused\nrefused\n", True)


def test_a_memory_bomb_runs_into_its_own_limit() -> None:
    code = """
kept = []
try:
    while True:
        kept.append(bytearray(2**24))
except MemoryError:
    print(len(kept) < 16)  # 16 times 16 MiB are the limit
"""
    assert run(code) == ("True\n", True)


def test_memory_outside_the_address_space_cannot_be_had() -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
bpf = 321 if os.uname().machine == "x86_64" else 280
libc.vmsplice.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]
for call, *arguments in (
    ("shmget", 0, 24 * 2**20, 0o1600), ("semget", 0, 8, 0o1600), ("msgget", 0, 0o1600),
    ("memfd_create", b"name", 0), ("vmsplice", os.pipe()[1], None, 0, 0),
    ("syscall", bpf, 0, None, 0), ("syscall", 425, 0, None),
):
    print(getattr(libc, call)(*arguments), ctypes.get_errno())
"""
    assert run(code) == ("-1 1\n" * 7, True)  # 1 = EPERM


def test_system_calls_of_another_abi_end_the_code() -> None:
    code = """
import ctypes
print(ctypes.CDLL(None).syscall(0x40000000 + 29, 0, 24 * 2**20, 0o1600))
"""
    assert run(code) == ("", False)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of x86")
def test_system_calls_of_32_bits_end_the_code() -> None:
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex("b814000000cd80c3"))  # getpid by `int 0x80`
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
"""
    assert run(code) == ("", False)


def test_a_huge_output_is_cut_and_a_full_disk_stays_small() -> None:
    flood = run("while True: print('x' * 10000)")
    assert (len(flood[0]), flood[1]) == (LIMITS.output_bytes, False)
    disk = """
try:
    for n in range(1000):
        open(f"f{n}", "wb").write(bytes(2**20))
except OSError:
    print(n < 32)
"""
    assert run(disk) == ("True\n", True)
    files = """
import os
try:
    for n in range(5000):
        open(f"f{n}", "w").close()
except OSError:
    print(n < 1024)
"""
    assert run(files) == ("True\n", True)


def test_there_is_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = f"""
import socket
for address in ({listener.getsockname()!r}, ("1.1.1.1", 53)):
    try:
        socket.create_connection(address, 1)
        print("reached")
    except OSError:
        print("unreachable")
"""
        assert run(code) == ("unreachable\nunreachable\n", True)


def test_environment_processes_and_files_of_the_server_are_out_of_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_KEYS", "the-key")
    secret = tmp_path / ".env"
    secret.write_text("ASSAY_KEYS=the-key")
    secret.chmod(0o644)
    tmp_path.chmod(0o755)
    code = f"""
import os
print("ASSAY_KEYS" in os.environ)
server = "/proc/{os.getpid()}/environ"
for path in (server, "/proc/self/environ", {str(secret)!r}, {str(Path.cwd())!r}):
    print(os.path.exists(path))
try:
    os.kill({os.getpid()}, 9)
except ProcessLookupError:
    print("no such process")
"""
    assert run(code) == ("False\n" * 5 + "no such process\n", True)


def test_privileges_cannot_be_had_back() -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None)
print(os.getuid(), [libc.unshare(flag) for flag in (0x10000000, 0x20000)])
print(libc.mount(b"tmpfs", b"/work", b"tmpfs", 0, None), libc.chroot(b"/work"))
try:
    open(os.path.dirname(os.__file__) + "/planted.py", "w")
except OSError:
    print("read-only")
"""
    assert run(code) == ("65534 [-1, -1]\n-1 -1\nread-only\n", True)


def test_a_machine_that_cannot_enforce_the_limits_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(SandboxError, match="Linux is needed"):
        check_sandbox.__wrapped__()
    monkeypatch.undo()
    monkeypatch.setattr("assay.rewards.rules.sandbox._LIBRARIES", ("/no/such\0path",))
    with pytest.raises(SandboxError):
        check_sandbox.__wrapped__()


def test_a_machine_whose_system_calls_are_not_known_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = tmp_path / "launcher.py"
    source = Path(sandbox_launcher.__file__).read_text()
    launcher.write_text(source.replace("os.uname().machine", "'riscv64'"))
    monkeypatch.setattr("assay.rewards.rules.sandbox._LAUNCHER", launcher)
    with pytest.raises(SandboxError, match="no filter of system calls is known for riscv64"):
        check_sandbox.__wrapped__()
