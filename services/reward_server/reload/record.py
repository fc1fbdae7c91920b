"""Keeps the store's aliases up with what serves, off the path of those who wait for a switch."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from assay.errors import AssayError
from reward_server.tasks import end

if TYPE_CHECKING:
    from assay.registry.aliases import Aliases
    from assay.registry.store import Store

logger = logging.getLogger(__name__)

_AGAIN_S = 1.0


class AliasRecord:
    """Writes the newest aliases, again and again while the store cannot be written.

    Args:
        store: the truth about which version serves.
        name: of the model.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._wanted: Aliases | None = None
        self._written_epoch = -1
        self._since_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def want(self, aliases: Aliases) -> None:
        """Let the store hold these, unless it was asked to for this epoch already."""
        if self._wanted is not None and aliases.epoch <= self._wanted.epoch:
            return
        self._wanted, self._since_s = aliases, time.monotonic()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write(), name="aliases")

    def is_settled(self, epoch: int, patience_s: float) -> bool:
        """Whether the store holds an epoch's aliases, or has failed to for longer than that."""
        if self._written_epoch >= epoch:
            return True
        return self._wanted is not None and time.monotonic() - self._since_s > patience_s

    async def close(self) -> None:
        """Stop writing."""
        if self._task is not None:
            await end(self._task)

    async def _write(self) -> None:
        is_told = False
        while self._wanted is not None and self._wanted.epoch > self._written_epoch:
            wanted = self._wanted
            try:
                await asyncio.to_thread(self._store.update_aliases, self._name, wanted.newer)
            except AssayError as error:
                if not is_told:
                    logger.error("aliases not written", extra={"reason": error.detail})
                is_told = True
                await asyncio.sleep(_AGAIN_S)
            else:
                self._written_epoch = wanted.epoch
