"""The trainer and the aliases: what a change of the serving version means, and asking for one."""

from __future__ import annotations

import logging
from typing import Literal

from assay.errors import ConflictError, NotReadyError
from assay.registry.aliases import Aliases
from assay.registry.promotions import Registry, propose, rebuild, set_candidate
from assay.registry.records import Promotion, SwapWhen
from assay.registry.store import Store
from reward_trainer.online.state import State

_PREPARE_S = 300.0
_LOG = logging.getLogger(__name__)


def meaning(state: State, serving: int) -> Literal["none", "own", "foreign"]:
    """What it means to the trainer that `serving` is served.

    Args:
        state: with the version that was served before, and those that the trainer made since it
            started from another.
        serving: what is served.

    Returns:
        `own`: a version of its own has been promoted; it goes on. `foreign`: somebody promoted
        another one, or rolled back; it starts anew from there.
    """
    if serving == state.serving:
        return "none"
    return "own" if serving in state.passed and serving > state.serving else "foreign"


class Following:
    """Reads and moves aliases; every method raises DependencyError while Redis is down.

    Args:
        registry: of the trained model.
        store: its store.
        released: what serves where nobody has said anything.
    """

    def __init__(self, registry: Registry, store: Store, released: int) -> None:
        self._registry, self._store, self._released = registry, store, released

    async def aliases(self) -> Aliases:
        """The aliases, from Redis or, where it has lost them, from the store."""
        board = await self._registry.board()
        if board is None:
            board = await rebuild(self._registry, self._store, self._released)
        return board.aliases

    async def serving(self) -> int:
        """The version that is served."""
        return (await self.aliases()).serving or self._released

    async def anchor(self) -> int:
        """The last version that a person promoted, or else made."""
        return (await self.aliases()).anchor or self._released

    async def nominate(self, version: int | None) -> None:
        """Make a version the candidate, or none."""
        if (await self.aliases()).candidate != version:
            await set_candidate(self._registry, self._store, version)

    async def promote(self, version: int, swap_when: SwapWhen) -> Promotion | None:
        """Ask for a version to be served.

        Returns:
            The promotion; None if one is under way, or no server is there to take part.
        """
        try:
            return await propose(
                self._registry, version, "promote", "trainer", swap_when, _PREPARE_S
            )
        except (ConflictError, NotReadyError) as error:
            _LOG.info("not promoted yet", extra={"version": version, "reason": error.detail})
            return None

    async def promotion(self, id_: str) -> Promotion | None:
        """A promotion that was asked for; None if Redis has lost it."""
        return await self._registry.promotion(id_)
