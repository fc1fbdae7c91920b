"""Request bodies out of arguments, results out of reply bodies; errors repeat neither."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from assay.errors import AssayError, InvalidInputError
from assay.schemas.validation import invalid_input

Model = TypeVar("Model", bound=BaseModel)
Items: TypeAlias = Iterable[BaseModel | dict[str, Any]]


def plain(items: Items) -> list[Any]:
    """Schema objects as plain data, so that a `Group` also serves as a `ContrastiveGroup`."""
    return [
        item.model_dump(exclude_unset=True) if isinstance(item, BaseModel) else item
        for item in items
    ]


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None; the others are left to the server."""
    return {name: value for name, value in fields.items() if value is not None}


def build(request: type[Model], **fields: Any) -> Model:
    """A validated request.

    Raises:
        InvalidInputError: a field is wrong; texts are never in the message.
    """
    try:
        return request(**given(**fields))
    except ValidationError as error:
        raise invalid_input(error.errors(include_input=False, include_url=False)) from None


def dump(body: BaseModel) -> bytes:
    """A request body.

    Raises:
        InvalidInputError: it holds something that JSON cannot carry.
    """
    try:
        return body.model_dump_json(exclude_unset=True).encode()
    except PydanticSerializationError:
        raise InvalidInputError(
            "a text holds lone surrogates, or labels or messages hold objects: JSON has neither"
        ) from None


def parse(reply: type[Model], body: bytes) -> Model:
    """A reply body.

    Raises:
        AssayError: the reply is not what the API promises.
    """
    try:
        return reply.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        why = "it is not JSON, or cut short"
        if faults[0]["type"] != "json_invalid":
            why = invalid_input(faults).detail
        raise AssayError(f"the server's answer is no {reply.__name__}: {why}") from None
