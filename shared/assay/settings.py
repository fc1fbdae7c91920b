"""Settings of those who call a reward server, and how every service reads its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from assay.errors import StartupError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Settings = TypeVar("Settings", bound=BaseSettings)


class ClientSettings(BaseSettings):
    """Where the server is, from `ASSAY_URL` and `ASSAY_KEY`; explicit arguments win."""

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    url: AnyHttpUrl = Field(
        default=AnyHttpUrl("http://127.0.0.1:8000"), description="Base URL of the server."
    )
    key: SecretStr | None = Field(default=None, description="Key to send; None = none.")

    @field_validator("key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("a key is one or more ASCII characters without spaces")
        return key


def from_flags(kind: type[Settings], argv: Sequence[str], program: str) -> Settings:
    """A service's settings from flags and environment; `--help` prints them and exits.

    Args:
        kind: the service's settings class.
        argv: the flags.
        program: the command's name in its help.

    Raises:
        StartupError: a setting is wrong; its value is not repeated, as that may be a key.
    """
    try:
        return kind(
            _cli_parse_args=list(argv),
            _cli_prog_name=program,
            _cli_kebab_case=True,
            _cli_implicit_flags=True,
            _cli_hide_none_type=True,
        )
    except ValidationError as error:
        raise StartupError("; ".join(map(_fault, error.errors()))) from None


def _fault(error: ErrorDetails) -> str:
    place = ".".join(map(str, error["loc"]))
    message = error["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
