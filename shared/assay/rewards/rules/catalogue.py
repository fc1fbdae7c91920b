"""From a rule's name to the rule: the shipped ones, and entry points of the group `assay.rules`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeAlias

from pydantic import ValidationError

from assay.errors import InvalidInputError
from assay.rewards.rules.code_tests import CodeTests
from assay.rewards.rules.exact_match import ExactMatch
from assay.rewards.rules.length_penalty import LengthPenalty
from assay.rewards.rules.regex import Regex

Rule: TypeAlias = Callable[[str, str, Any], float | None]
ShippedRule: TypeAlias = Regex | ExactMatch | LengthPenalty | CodeTests

GROUP = "assay.rules"
RUNS_CODE = frozenset({"code_tests"})  # what an operator has to allow by name
SHIPPED: dict[str, type[ShippedRule]] = {
    "regex": Regex,
    "exact_match": ExactMatch,
    "length_penalty": LengthPenalty,
    "code_tests": CodeTests,
}


def make_rule(name: str, options: Mapping[str, Any]) -> Rule:
    """A rule, ready to be called.

    Args:
        name: a shipped rule, or an entry point.
        options: what the shipped rule takes; an entry point takes none.

    Raises:
        InvalidInputError: no such rule, wrong options, or an entry point that does not load.
    """
    found = entry_points(group=GROUP, name=name)
    if name in SHIPPED:
        if found:
            raise InvalidInputError(f"the rule {name} is shipped: rename the entry point")
        return shipped_rule(name, options)
    if not found:
        raise InvalidInputError(f"there is no rule {name}; there are {', '.join(rule_names())}")
    if len(found) > 1:
        raise InvalidInputError(f"{len(found)} packages have a rule {name}: uninstall one")
    if options:
        raise InvalidInputError(f"the rule {name} is an entry point and takes no options")
    return _loaded(next(iter(found)))


def shipped_rule(name: str, options: Mapping[str, Any]) -> ShippedRule:
    """A shipped rule.

    Raises:
        InvalidInputError: its options are wrong.
    """
    try:
        return SHIPPED[name].model_validate(options)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = "".join(f"{part}: " for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        raise InvalidInputError(f"the options of the rule {name}: {place}{message}") from None


def rule_names() -> list[str]:
    """All rules that can be named here."""
    return sorted({*SHIPPED, *(point.name for point in entry_points(group=GROUP))})


def _loaded(point: EntryPoint) -> Rule:
    try:
        rule = point.load()
    except Exception as error:  # noqa: BLE001 - it is somebody else's module
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InvalidInputError(
            f"the rule {point.name} ({point.value}) does not load: {why}"
        ) from None
    if not callable(rule):
        raise InvalidInputError(f"the rule {point.name} ({point.value}) cannot be called")
    made: Rule = rule
    return made
