"""Which versions pinned requests need: kept here, and told to the other replicas now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

_RENEWALS = 10  # in the life of a lease


class Leases:
    """The pins that this replica saw.

    Args:
        ttl_s: how long a version stays resident after its last pinned request.
        clock: seconds that only grow.
    """

    def __init__(self, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._ends_s: dict[int, float] = {}
        self._told_s: dict[int, float] = {}

    def touch(self, version: int) -> bool:
        """A request is pinned to a version; True if the others should hear of it now."""
        now_s = self._clock()
        self._ends_s[version] = now_s + self._ttl_s
        return self._is_due(version, now_s)

    def held(self) -> set[int]:
        """The versions that are leased here."""
        now_s = self._clock()
        self._ends_s = {version: end for version, end in self._ends_s.items() if end > now_s}
        return set(self._ends_s)

    def due(self) -> list[int]:
        """Leases that were renewed here and that the others have not heard of for a while."""
        now_s = self._clock()
        return [
            version
            for version in self.held()
            if self._is_due(version, now_s)
            and self._ends_s[version] - self._ttl_s >= self._told_s.get(version, 0.0)
        ]

    def told(self, version: int) -> None:
        """The others have heard."""
        self._told_s[version] = self._clock()

    def _is_due(self, version: int, now_s: float) -> bool:
        told_s = self._told_s.get(version)
        return told_s is None or now_s - told_s >= self._ttl_s / _RENEWALS
