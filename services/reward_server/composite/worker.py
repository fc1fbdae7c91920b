"""The process that runs rules: `python -m reward_server.composite.worker`. One line in, one out.

First line in: the rules; out: `{"ready": true}` or `{"error": "..."}`. Then each line in is a call,
`{"rule": 0, "prompt": ..., "completion": ..., "label": ...}`, and out comes `{"value": 0.5}`,
`{"value": null}` or `{"failed": "..."}`. It ends with its input.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import IO, Any

from assay.errors import AssayError
from assay.rewards.rules.catalogue import RUNS_CODE, Rule, make_rule
from assay.rewards.rules.sandbox import SandboxError, check_sandbox

_DEATH_SIGNAL = 1


def main() -> None:
    """Answer until the input ends."""
    _die_with_parent()
    calls = os.fdopen(os.dup(0), encoding="utf-8", errors="surrogatepass")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a rule prints is no answer
    try:
        rules = _make_rules(json.loads(calls.readline()))
    except (AssayError, SandboxError) as error:
        _answer(answers, error=str(error))
        return
    _answer(answers, ready=True)
    for line in calls:
        _answer(answers, **_call(rules, json.loads(line)))


def _make_rules(specs: Sequence[dict[str, Any]]) -> list[Rule]:
    if any(spec["rule"] in RUNS_CODE for spec in specs):
        check_sandbox()
    return [make_rule(spec["rule"], spec["options"]) for spec in specs]


def _call(rules: Sequence[Rule], call: dict[str, Any]) -> dict[str, Any]:
    rule = rules[call["rule"]]
    try:
        value = rule(call["prompt"], call["completion"], call["label"])
    except Exception as error:  # noqa: BLE001 - whatever a rule raises, the others go on
        return {"failed": _where(error)}
    if value is None:
        return {"value": None}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {"failed": f"it returned a {type(value).__name__}, not a number"}
    if not math.isfinite(value):
        return {"failed": "it returned a number that is not finite"}
    return {"value": float(value)}


def _where(error: Exception) -> str:
    """The kind and place of an error, without its message: that may hold a text."""
    if isinstance(error, SandboxError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {os.path.basename(frame.filename)}:{frame.lineno}"


def _answer(answers: IO[str], **fields: object) -> None:
    answers.write(json.dumps(fields) + "\n")
    answers.flush()


def _die_with_parent() -> None:
    """End even in the midst of a rule that hangs; elsewhere than on Linux, once it is done."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


if __name__ == "__main__":
    main()
