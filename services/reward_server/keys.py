"""Keys, their scopes and their rates."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from assay.errors import ForbiddenError, RateLimitedError, UnauthorizedError

Scope = Literal["score", "samples", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_BURST_S = 10.0


@dataclass
class Key:
    """One key: only its digest is kept.

    Attributes:
        digest: SHA-256 of the key.
        scopes: what it may do.
        per_minute: requests that it may make a minute, on this replica; None = any number.
    """

    digest: bytes
    scopes: frozenset[Scope]
    per_minute: float | None
    _tokens: float | None = field(default=None, repr=False)
    _filled_at: float = field(default=0.0, repr=False)

    def spend(self, now_s: float) -> None:
        """Take one request from the bucket, which holds ten seconds' worth, at least one.

        Raises:
            RateLimitedError: it is empty.
        """
        if self.per_minute is None:
            return
        rate = self.per_minute / 60.0
        burst = max(1.0, rate * _BURST_S)
        tokens = burst if self._tokens is None else self._tokens
        self._tokens = min(burst, tokens + (now_s - self._filled_at) * rate)
        self._filled_at = now_s
        if self._tokens < 1.0:
            wait_s = (1.0 - self._tokens) / rate
            raise RateLimitedError(
                f"this key may make {self.per_minute:g} requests a minute", retry_after_s=wait_s
            )
        self._tokens -= 1.0


@dataclass(frozen=True)
class Keyring:
    """All keys of a server; empty = every request is let in."""

    keys: tuple[Key, ...] = ()
    clock: Callable[[], float] = time.monotonic

    def admit(self, authorization: str | None, scope: Scope | None) -> None:
        """Check one request.

        Args:
            authorization: the header, `Bearer KEY`.
            scope: what the route needs; None = any key will do.

        Raises:
            UnauthorizedError: no key, or an unknown one.
            ForbiddenError: the key lacks the scope.
            RateLimitedError: the key makes too many requests.
        """
        if not self.keys:
            return
        key = self._find(authorization)
        if scope is not None and scope not in key.scopes:
            raise ForbiddenError(f"this key lacks the scope {scope}")
        key.spend(self.clock())

    def _find(self, authorization: str | None) -> Key:
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise UnauthorizedError("send the header Authorization: Bearer KEY")
        digest = _digest(secret.strip())
        found = [key for key in self.keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise UnauthorizedError("this key is unknown")
        return found[0]


def parse_keys(text: str) -> Keyring:
    """Read `KEY[:scope+scope[:requests per minute]]`, separated by commas; all scopes by default.

    Raises:
        ValueError: an entry cannot be read. The key itself is never in the message.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    return Keyring(tuple(_parse(entry, number) for number, entry in enumerate(entries, 1)))


def _parse(entry: str, number: int) -> Key:
    secret, _, rest = entry.partition(":")
    names, _, rate = rest.partition(":")
    scopes = frozenset(names.split("+")) if names else frozenset(SCOPES)
    unknown = scopes - set(SCOPES)
    if unknown or not secret:
        raise ValueError(
            f"key {number}: write KEY[:scope+scope[:requests per minute]], with scopes "
            f"among {', '.join(SCOPES)}"
        )
    try:
        per_minute = float(rate) if rate else None
    except ValueError:
        raise ValueError(f"key {number}: the rate is not a number of requests per minute") from None
    if per_minute is not None and not 0 < per_minute < float("inf"):
        raise ValueError(f"key {number}: the rate must be above 0")
    return Key(_digest(secret), frozenset(s for s in SCOPES if s in scopes), per_minute)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
