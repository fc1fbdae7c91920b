"""Keeps resident what is wanted: loads and unloads in the background, one after the other."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from assay.errors import AssayError
from reward_server.tasks import end

if TYPE_CHECKING:
    from reward_server.reload.loader import Loader
    from reward_server.versions import Versions

logger = logging.getLogger(__name__)

_RETRY_S = 10.0  # before a version that did not load is tried again


class Residency:
    """What this replica holds, against what it should hold."""

    def __init__(self, loader: Loader, versions: Versions) -> None:
        self._loader = loader
        self._versions = versions
        self._wanted: set[int] = set()
        self._leased: set[int] = set()
        self._spare: int | None = None
        self._failures: dict[int, tuple[str, float]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def failed(self) -> dict[int, str]:
        """The versions that did not load, and why."""
        return {version: reason for version, (reason, _) in self._failures.items()}

    @property
    def is_settled(self) -> bool:
        """Whether everything wanted is resident, or did not load."""
        return self._task is None and not self._missing()

    def want(self, wanted: set[int], leased: set[int], spare: int | None) -> None:
        """Say what should be resident; returns at once.

        Args:
            wanted: all that should be.
            leased: those of them that pinned requests need.
            spare: the one that may wait in CPU memory.
        """
        self._wanted, self._leased, self._spare = wanted, leased, spare
        now_s = time.monotonic()
        self._failures = {
            version: (reason, at_s)
            for version, (reason, at_s) in self._failures.items()
            if version in wanted and now_s - at_s < _RETRY_S
        }
        self._loader.forget(wanted)
        if self._task is None and (self._missing() or self._surplus()):
            self._task = asyncio.create_task(self._settle(), name="residency")

    def give_another_try(self, version: int) -> None:
        """Forget that a version did not load."""
        self._failures.pop(version, None)

    async def close(self) -> None:
        """Stop loading."""
        if self._task is not None:
            await end(self._task)
        self._loader.close()

    def _missing(self) -> list[int]:
        """What is to be loaded, the spare version last."""
        there = {*self._versions.numbers, *self._failures}
        if self._spare is not None and self._spare == self._loader.parked:
            there.add(self._spare)
        return sorted(self._wanted - there, key=lambda version: version == self._spare)

    def _surplus(self) -> list[int]:
        needed = self._wanted | {self._versions.serving.version}
        return [version for version in self._versions.numbers if version not in needed]

    async def _settle(self) -> None:
        try:
            while True:
                if surplus := self._surplus():
                    self._loader.unload(surplus[0])
                elif missing := self._missing():
                    await self._load(missing[0])
                else:
                    return
        finally:
            self._task = None

    async def _load(self, version: int) -> None:
        started_s = time.monotonic()
        try:
            await self._loader.load(version, self._leased)
        except AssayError as error:
            self._fail(version, error.detail)
        except Exception as error:
            logger.exception("a version did not load", extra={"version": version})
            self._fail(version, f"{type(error).__name__}: see the log of the replica")
        else:
            took_s = round(time.monotonic() - started_s, 3)
            logger.info("version resident", extra={"version": version, "seconds": took_s})

    def _fail(self, version: int, reason: str) -> None:
        logger.warning("a version did not load", extra={"version": version, "reason": reason})
        self._failures[version] = (reason, time.monotonic())
