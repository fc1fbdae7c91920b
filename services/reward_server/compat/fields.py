"""Field types that the bodies of several systems share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

TokenId = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
TokenIds: TypeAlias = Annotated[tuple[TokenId, ...], Field(min_length=1, fail_fast=True)]
NonEmpty: TypeAlias = Annotated[str, Field(min_length=1)]
ModelName: TypeAlias = Annotated[str, Field(min_length=1, max_length=4096)]


def _text_or_ids(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<ids>" if isinstance(value, list | tuple) else None


TextOrIds: TypeAlias = Annotated[
    Annotated[NonEmpty, Tag("<text>")] | Annotated[TokenIds, Tag("<ids>")],
    Discriminator(
        _text_or_ids,
        custom_error_type="text_or_ids",
        custom_error_message="Input should be a text or a list of token ids",
    ),
]


def is_single(value: object) -> bool:
    """Whether this is one text, or the token ids of one, and no list of them."""
    if isinstance(value, list | tuple):
        return bool(value) and isinstance(value[0], int)
    return isinstance(value, str)


def _listed(value: object) -> object:
    return [value] if is_single(value) else value


Inputs: TypeAlias = Annotated[
    list[TextOrIds],
    Field(fail_fast=True),
    BeforeValidator(
        _listed, json_schema_input_type=str | list[str] | list[TokenId] | list[list[TokenId]]
    ),
]
Texts: TypeAlias = Annotated[
    list[NonEmpty],
    Field(fail_fast=True),
    BeforeValidator(_listed, json_schema_input_type=str | list[str]),
]


OneOrMoreTexts: TypeAlias = Annotated[
    Annotated[NonEmpty, Tag("<text>")]
    | Annotated[list[NonEmpty], Field(fail_fast=True), Tag("<texts>")],
    Discriminator(lambda value: "<text>" if isinstance(value, str) else "<texts>"),
]
OneOrMoreIds: TypeAlias = Annotated[
    Annotated[TokenIds, Tag("<ids>")]
    | Annotated[list[TokenIds], Field(fail_fast=True), Tag("<lists>")],
    Discriminator(lambda value: "<ids>" if is_single(value) else "<lists>"),
]


def _refuse(value: object) -> None:
    if value not in (None, {}, False):
        raise PydanticCustomError("unsupported", "This server does not support it: leave it out")


# A field that the other system knows: null is let through, all else is refused by its name.
Unsupported: TypeAlias = Annotated[None, BeforeValidator(_refuse)]
