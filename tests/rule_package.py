"""A package with rules of an operator, as pip would install it: for the rules' own processes."""

from __future__ import annotations

from pathlib import Path

RULES = """
import os, sys, time

def by_length(prompt, completion, label):
    return float(len(prompt) + 10 * len(completion))

def by_label(prompt, completion, label):
    return None if label is None else float(label)

def moody(prompt, completion, label):
    print("rules may print")
    if "raise" in completion:
        raise ValueError(completion)
    if "hang" in completion:
        time.sleep(600)
    if "exit" in completion:
        os._exit(3)
    if "kind" in completion:
        raise type(completion, (ValueError,), {})
    if "text" in completion:
        return "1.0"
    if "nan" in completion:
        return float("nan")
    return 1.0

not_a_rule = 7
"""
POINTS = ("by_length", "by_label", "moody", "not_a_rule", "missing", "exact_match")


def write_rules(folder: Path) -> str:
    """Write the package; returns what to put on PYTHONPATH."""
    (folder / "operator_rules.py").write_text(RULES)
    info = folder / "operator_rules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: operator-rules\nVersion: 1.0\n")
    points = "".join(f"{name} = operator_rules:{name}\n" for name in POINTS)
    (info / "entry_points.txt").write_text(f"[assay.rules]\n{points}")
    return str(folder)
