"""The shipped rules but code execution: values by hand."""

from __future__ import annotations

import pytest

from assay.errors import InvalidInputError
from assay.rewards.rules.catalogue import make_rule


@pytest.mark.parametrize(
    ("options", "completion", "label", "expected"),
    [
        ({"pattern": r"\d{3}"}, "call 911 now", None, 1.0),
        ({"pattern": r"\d{3}"}, "call 91 now", None, 0.0),
        ({"pattern": r"\d{3}", "whole": True}, "call 911 now", None, 0.0),
        ({"pattern": r"\d{3}", "whole": True}, "911", None, 1.0),
        ({"pattern": "yes"}, "YES", None, 0.0),
        ({"pattern": "yes", "ignore_case": True}, "YES", None, 1.0),
        ({"pattern": "#### {label}$"}, "so\n#### 42", 42, 1.0),
        ({"pattern": "#### {label}$"}, "so\n#### 42", 42.0, 1.0),
        ({"pattern": "#### {label}$"}, "so\n#### 420", "42", 0.0),
        ({"pattern": "{label}"}, "3x4", "3.4", 0.0),  # a label is literal, not a pattern
        ({"pattern": "{label}"}, "anything", None, None),
    ],
)
def test_regex(
    options: dict[str, object], completion: str, label: object, expected: float | None
) -> None:
    assert make_rule("regex", options)("p", completion, label) == expected


@pytest.mark.parametrize(
    ("options", "completion", "label", "expected"),
    [
        ({}, " Paris\n", "Paris", 1.0),
        ({}, "paris", "Paris", 0.0),
        ({"ignore_case": True}, "paris", "Paris", 1.0),
        ({}, "4", 4, 1.0),
        ({}, "Rome", ["Paris", "Rome"], 1.0),
        ({}, "Oslo", ["Paris", "Rome"], 0.0),
        ({"answer": r"\\boxed\{(.*?)\}"}, r"first \boxed{3}, no: \boxed{4}", "4", 1.0),
        ({"answer": r"\\boxed\{(.*?)\}"}, r"first \boxed{4}, no: \boxed{3}", "4", 0.0),
        ({"answer": r"\d+"}, "between 3 and 5", 5, 1.0),
        ({"answer": r"\d+"}, "no idea", 5, 0.0),
        ({}, "Paris", None, None),
    ],
)
def test_exact_match(
    options: dict[str, object], completion: str, label: object, expected: float | None
) -> None:
    assert make_rule("exact_match", options)("p", completion, label) == expected


@pytest.mark.parametrize(
    ("unit", "completion", "expected"),
    [
        ("words", "a b", 0.0),
        ("words", "a b c d", 0.0),
        ("words", "a b c d e", -0.25),  # 1 of the 4 between 4 and 8
        ("words", "a b c d e f g h", -1.0),
        ("words", "w " * 1000, -1.0),
        ("characters", "abcdef", -0.5),
    ],
)
def test_length_penalty_falls_in_a_straight_line(
    unit: str, completion: str, expected: float
) -> None:
    rule = make_rule("length_penalty", {"free": 4, "full": 8, "unit": unit})
    assert rule("p", completion, None) == expected


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("regex", {"pattern": "(a"}, "pattern: no regular expression: missing )"),
        ("regex", {}, "pattern: Field required"),
        ("exact_match", {"answer": "[a"}, "answer: no regular expression"),
        ("exact_match", {"what": 1}, "what: Extra inputs"),
        ("length_penalty", {"free": 8, "full": 8}, "full 8 must exceed free 8"),
        ("code_tests", {"time_s": float("nan")}, "time_s: Input should be a finite number"),
        ("no_such_rule", {}, "there is no rule no_such_rule; there are code_tests"),
    ],
)
def test_wrong_rules_and_options_are_named(
    name: str, options: dict[str, object], says: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        make_rule(name, options)
    assert says in refused.value.detail


@pytest.mark.parametrize("name", ["regex", "exact_match"])
def test_a_label_of_another_kind_is_an_error(name: str) -> None:
    rule = make_rule(name, {"pattern": "{label}"} if name == "regex" else {})
    with pytest.raises(TypeError, match="the label is a dict"):
        rule("p", "c", {"answer": 1})
