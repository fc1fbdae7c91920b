"""How a version is written: `name@7`."""

from __future__ import annotations

import re
from typing import NamedTuple

from assay.errors import InvalidInputError

_NAME = r"[a-z0-9][a-z0-9._-]*"
_PIN = re.compile(rf"({_NAME})(?:@([0-9]{{1,15}}))?")


class ModelRef(NamedTuple):
    """An immutable version of a named reward model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class Pin(NamedTuple):
    """What a request asks for: a name, and a version of it or None for the serving one."""

    name: str
    version: int | None


def parse_pin(text: str) -> Pin:
    """Read `name` or `name@7`; `org/model` is read as `org--model`, upper case as lower.

    Raises:
        InvalidInputError: it is neither.
    """
    match = _PIN.fullmatch(slug(text))
    if match is None:
        raise InvalidInputError(f"a model is written name or name@7, not {text[:80]!r}")
    name, version = match.groups()
    return Pin(name, None if version is None else int(version))


def slug(text: str) -> str:
    """The name under which a hub id is served: `Org/Model` becomes `org--model`."""
    return text.strip().lower().replace("/", "--")
