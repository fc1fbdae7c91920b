"""What both clients are told at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import ValidationError

from assay.client.bodies import given
from assay.errors import InvalidInputError
from assay.schemas.refs import parse_pin
from assay.schemas.validation import invalid_input
from assay.settings import ClientSettings

PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ClientOptions:
    """How a client talks to its server.

    Attributes:
        url: base URL; a path prefix such as `/m/name@7` stays in front of every route.
        key: sent as `Authorization: Bearer`.
        model: version that every scoring call asks for; None = the serving one.
        timeout_s: longest time of one call, retries and waits included.
        retries: how often a request is tried again after a connection error or a 5xx.
        connections: requests of one client under way at once.
        texts_per_request: larger calls are cut into several requests.
    """

    url: str = field(repr=False)  # may hold a password of a proxy in front
    key: str | None = field(repr=False)
    model: str | None
    timeout_s: float
    retries: int
    connections: int
    texts_per_request: int

    @property
    def server(self) -> str:
        """Host and port, as errors name them."""
        return httpx.URL(self.url).netloc.decode()

    def with_model(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options of a scoring call, with the client's pin unless they bring their own."""
        return {"model": self.model, **options}

    def httpx_arguments(self) -> dict[str, object]:
        """Arguments of the httpx client underneath."""
        headers = {"User-Agent": "assay-client"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        limits = httpx.Limits(
            max_connections=self.connections, max_keepalive_connections=self.connections
        )
        return {"base_url": self.url.rstrip("/"), "headers": headers, "limits": limits}


def make_options(
    url: str | None,
    key: str | None,
    model: str | None,
    *,
    timeout_s: float,
    retries: int,
    connections: int,
    texts_per_request: int,
) -> ClientOptions:
    """Fill in url and key from the environment where they are not given.

    Raises:
        InvalidInputError: one of them is wrong.
    """
    if not (timeout_s > 0 and connections > 0 and texts_per_request > 0 and retries >= 0):
        raise InvalidInputError(
            "timeout_s, connections and texts_per_request are above 0, retries not below"
        )
    if model is not None:
        parse_pin(model)
    settings = _settings(url, key)
    return ClientOptions(
        url=str(settings.url),
        key=settings.key.get_secret_value() if settings.key else None,
        model=model,
        timeout_s=timeout_s,
        retries=retries,
        connections=connections,
        texts_per_request=texts_per_request,
    )


def _settings(url: str | None, key: str | None) -> ClientSettings:
    try:
        return ClientSettings(**given(url=url, key=key))
    except ValidationError as error:
        raise invalid_input(error.errors(include_input=False, include_url=False)) from None
