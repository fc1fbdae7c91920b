"""What pydantic finds wrong, as the error that servers and clients raise for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.errors import FieldError, InvalidInputError

_MAX_FIELDS = 20


def invalid_input(faults: Sequence[Mapping[str, Any]], *, root: int = 0) -> InvalidInputError:
    """The error that names the wrong fields; it repeats no input.

    Args:
        faults: `errors()` of a pydantic `ValidationError`, at least one.
        root: leading parts of each location that are not part of the path: 1 for `body`.
    """
    fields = tuple(
        FieldError(_path(fault["loc"][root:]), fault["msg"]) for fault in faults[:_MAX_FIELDS]
    )
    first = fields[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InvalidInputError(f"{first.path}: {first.message}{more}", fields=fields)


def _path(location: Iterable[int | str]) -> str:
    """`("groups", 0, "prompt", "text")` as `groups[0].prompt`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith("<"):  # the tag of a union's branch
            path += f".{part}" if path else part
    return path or "body"
