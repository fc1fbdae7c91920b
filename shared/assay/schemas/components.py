"""The parts of a composite reward, as an operator writes them: reward models and rules."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from assay.errors import InvalidInputError
from assay.schemas.base import Inbound

Normalise = Literal["none", "calibration"]


class Component(Inbound):
    """One part: its value times its weight is what it adds to the score."""

    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="A reward model: the name of the served one, or `name@7`, a folder or a hub "
        "id for one that is loaded beside it and stays as it is.",
    )
    rule: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="A rule: regex, exact_match, length_penalty, code_tests, or an entry point of "
        "the group `assay.rules`.",
    )
    weight: float = Field(default=1.0, description="Finite and not 0; below 0 it counts against.")
    normalise: Normalise = Field(
        default="none",
        description="`calibration`: a model's score is divided by the temperature of its "
        "calibration, so that a difference of 1 is a log-odds of 1 that people prefer it.",
    )
    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._@-]{1,64}$",
        description="Its name in replies; None = that of the rule, or the model's id.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="For rules that take some.")

    @model_validator(mode="after")
    def _one_kind(self) -> Component:
        if (self.model is None) == (self.rule is None):
            raise ValueError("a component names either a model or a rule")
        if self.weight == 0:
            raise ValueError("a weight of 0 adds nothing: leave the component out")
        if self.rule is None and self.options:
            raise ValueError("options are for rules")
        if self.rule is not None and self.normalise != "none":
            raise ValueError("a rule has no calibration: write its scale into the weight")
        return self


_LIST = TypeAdapter(tuple[Component, ...])


def parse_components(text: str) -> tuple[Component, ...]:
    """Read a JSON list of components.

    Raises:
        ValueError: what is wrong with which component, in one line.
    """
    try:
        return _LIST.validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"]))
        message = fault["msg"].removeprefix("Value error, ")
        raise ValueError(f"{place}: {message}" if place else message) from None


def check_names(names: list[str]) -> None:
    """Refuse two components of one name, as replies tell them apart by it.

    Raises:
        InvalidInputError: two have the same one.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidInputError(f"{count} components are named {name}: give each its own name")
