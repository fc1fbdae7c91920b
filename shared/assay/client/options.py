"""What both clients are told at the start."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from assay.settings import ClientSettings


@dataclass(frozen=True)
class ClientOptions:
    """How a client talks to its server.

    Attributes:
        url: base URL; a path prefix such as `/m/name@7` stays in front of every route.
        key: sent as `Authorization: Bearer`; never shown.
        model: version that every scoring call asks for; None = the serving one.
        timeout_s: longest time of one call, retries and waits included.
        retries: how often a request is tried again after a connection error or a 5xx.
        connections: requests of one client under way at once.
        texts_per_request: larger calls are cut into several requests.
    """

    url: str
    key: str | None
    model: str | None
    timeout_s: float
    retries: int
    connections: int
    texts_per_request: int

    def __repr__(self) -> str:
        return f"ClientOptions(url={self.url!r})"

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
    """Fill in url and key from the environment where they are not given."""
    settings = ClientSettings()
    secret = settings.key.get_secret_value() if settings.key else None
    return ClientOptions(
        url=url or settings.url,
        key=key or secret,
        model=model,
        timeout_s=timeout_s,
        retries=retries,
        connections=connections,
        texts_per_request=texts_per_request,
    )
