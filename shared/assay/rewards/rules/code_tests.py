"""The rule `code_tests`: the share of tests that the code of a completion passes, or all or none.

The code is run as hostile. It never sees what a test expects: what it prints or returns is compared
out here, so that ending early, printing a success or changing the test's tools gains nothing. What
it could harm is fenced off by `assay.rewards.rules.sandbox`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from assay.rewards.rules.sandbox import Limits, run_python
from assay.schemas.base import Inbound

_PYTHON = frozenset({"", "python", "py", "python3"})
_MAX_COMPLETION_CHARACTERS = 2_000_000
_MAX_CODE_CHARACTERS = 200_000
_MAX_TESTS = 100

# Runs inside the fence: one line a call, `{"value": ...}`, or `{}` for a call that failed.
_CALLER = """
import json, os
out = os.fdopen(os.dup(1), "w")
os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
calls = json.load(open("/work/calls.json"))
names = {"__name__": "solution"}
exec(compile(open("/work/solution.py").read(), "solution.py", "exec"), names)
for call in calls:
    try:
        line = json.dumps({"value": eval(call, names)})
    except Exception:
        line = "{}"
    print(line, file=out, flush=True)
"""


class ProgramTest(Inbound):
    """A whole program: what it reads on its standard input, and what it shall print."""

    input: str = ""
    output: str


class CallTest(Inbound):
    """An expression to evaluate after the code, such as `add(1, 2)`, and its value as JSON."""

    call: str = Field(min_length=1)
    returns: Any


ProgramTests = Annotated[list[ProgramTest], Field(min_length=1, max_length=_MAX_TESTS)]
CallTests = Annotated[list[CallTest], Field(min_length=1, max_length=_MAX_TESTS)]
_TESTS: TypeAdapter[list[ProgramTest] | list[CallTest]] = TypeAdapter(ProgramTests | CallTests)


class CodeTests(Inbound):
    """1.0 if the code of the completion passes all tests of the label, else 0.0.

    The code is the last block between lines of ```` ``` ```` that names Python or no language, or
    the whole completion. The label is a list of `{"input", "output"}` (white space at the ends of
    lines and of the output does not count), or of `{"call", "returns"}` (tuples count as lists,
    floats within 1e-6). Python's standard library is there; processes, threads and the network are
    not.
    """

    time_s: float = Field(
        default=3.0,
        gt=0,
        le=300,
        description="CPU seconds of a run. All runs of a text may take twice that by the clock.",
    )
    memory_mb: int = Field(default=256, ge=64, le=65536, description="Address space of the code.")
    partial: bool = Field(default=False, description="True = the share of the tests that pass.")

    @property
    def wall_s(self) -> float:
        """What the code of one text may take by the clock, on a busy machine say."""
        return 2 * self.time_s

    def __call__(self, prompt: str, completion: str, label: object) -> float | None:
        """None without a label.

        Raises:
            ValueError: the label holds no tests.
            SandboxError: the code cannot be run here.
        """
        if label is None:
            return None
        tests = _read_tests(label)
        if len(completion) > _MAX_COMPLETION_CHARACTERS:
            return 0.0
        code = extract_code(completion)
        if len(code) > _MAX_CODE_CHARACTERS:
            return 0.0
        if isinstance(tests[0], ProgramTest):
            passed = self._run_programs(code, [t for t in tests if isinstance(t, ProgramTest)])
        else:
            passed = self._run_calls(code, [t for t in tests if isinstance(t, CallTest)])
        share = passed / len(tests)
        return share if self.partial else float(share == 1.0)

    def _run_programs(self, code: str, tests: Sequence[ProgramTest]) -> int:
        left_s = self.wall_s
        passed = 0
        for test in tests:
            run = run_python(code, {}, test.input, self._limits(left_s))
            left_s -= run.wall_s
            is_right = run.finished and _lines(run.text) == _lines(test.output)
            passed += is_right
            if left_s <= 0 or not (is_right or self.partial):
                break
        return passed

    def _run_calls(self, code: str, tests: Sequence[CallTest]) -> int:
        calls = json.dumps([test.call for test in tests])
        files = {"solution.py": code, "calls.json": calls}
        run = run_python(_CALLER, files, "", self._limits(self.wall_s))
        answers = run.text.splitlines()
        return sum(
            _is_answer(line, test.returns) for line, test in zip(answers, tests, strict=False)
        )

    def _limits(self, wall_s: float) -> Limits:
        return Limits(self.time_s, wall_s, self.memory_mb * 2**20)


def extract_code(completion: str) -> str:
    """The last fenced block of a completion in Python or no named language, or all of it."""
    code, fence, language = completion, "", ""
    block: list[str] = []
    for line in completion.split("\n"):
        ticks, info = _read_fence(line)
        if not fence:
            if ticks and "`" not in info:
                block, fence, language = [], ticks, info.split(maxsplit=1)[0] if info else ""
        elif len(ticks) >= len(fence) and not info:
            if language.lower() in _PYTHON:
                code = "".join(block)
            fence = ""
        else:
            block.append(line + "\n")
    return code


def _read_fence(line: str) -> tuple[str, str]:
    """The backticks that open or close a block, as in Markdown, and what follows them."""
    text = line.lstrip(" ")
    info = text.lstrip("`")
    ticks = len(text) - len(info)
    is_fence = ticks >= 3 and len(line) - len(text) <= 3
    return ("`" * ticks, info.strip()) if is_fence else ("", "")


def _read_tests(label: object) -> list[ProgramTest] | list[CallTest]:
    try:
        return _TESTS.validate_python(label)
    except ValidationError:
        raise ValueError(
            "the label is no list of {input, output} or of {call, returns}, at most "
            f"{_MAX_TESTS} of them"
        ) from None


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def _is_answer(line: str, expected: object) -> bool:
    try:
        answer = json.loads(line)
        return isinstance(answer, dict) and "value" in answer and _same(answer["value"], expected)
    except (ValueError, RecursionError, OverflowError):
        return False


def _same(value: object, expected: object) -> bool:
    """Equal as JSON; a float within 1e-6 of a number, relative to it; integers exactly."""
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, int) and isinstance(expected, int):
        return value == expected
    if isinstance(value, int | float) and isinstance(expected, int | float):
        return math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(_same, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(_same(value[k], expected[k]) for k in value)
    return value == expected
