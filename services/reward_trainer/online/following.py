"""The trainer and the aliases: what a change of the serving version means, and asking for one."""

from __future__ import annotations

import logging
from typing import Literal, NamedTuple

from assay.errors import ConflictError, NotReadyError
from assay.registry.aliases import Aliases
from assay.registry.fence import FencedError
from assay.registry.promotions import Registry, propose, rebuild, set_candidate
from assay.registry.records import Promotion, SwapWhen
from assay.registry.store import Store
from reward_trainer.online.state import State

_PREPARE_S = 300.0
_LOG = logging.getLogger(__name__)


class Served(NamedTuple):
    """What is served.

    Attributes:
        version: its number.
        epoch: how often `serving` had moved when it came to this version.
    """

    version: int
    epoch: int


def meaning(state: State, served: Served) -> Literal["none", "own", "foreign"]:
    """What it means to the trainer that a version is served.

    Args:
        state: with the version that was served before, and those that the trainer made since it
            started from another.
        served: what is served.

    Returns:
        `own`: a version of its own has been promoted; it goes on. `foreign`: somebody promoted
        another one, or rolled back, be it to where it was before; it starts anew from there. More
        than one move since the trainer has looked may hide a rollback.
    """
    if served == (state.serving, state.epoch):
        return "none"
    is_later = served.version in state.passed and served.version > state.serving
    return "own" if is_later and served.epoch == state.epoch + 1 else "foreign"


class Following:
    """Reads and moves aliases; every method raises DependencyError while Redis is down.

    The moving ones raise FencedError, with nothing moved, once another trainer has taken over.

    Args:
        registry: of the trained model.
        store: its store.
        released: what serves where nobody has said anything.
    """

    def __init__(self, registry: Registry, store: Store, released: int) -> None:
        self._registry, self._store, self._released = registry, store, released
        self._asked: str | None = None  # id of the promotion that was asked for

    async def aliases(self) -> Aliases:
        """The aliases, from Redis or, where it has lost them, from the store."""
        board = await self._registry.board()
        if board is None:
            board = await rebuild(self._registry, self._store, self._released)
        return board.aliases

    async def served(self) -> Served:
        """What is served."""
        aliases = await self.aliases()
        return Served(aliases.serving or self._released, aliases.epoch)

    async def anchor(self) -> int:
        """The last version that a person promoted, or else made."""
        return (await self.aliases()).anchor or self._released

    async def nominate(self, version: int | None) -> None:
        """Make a version the candidate, or none."""
        if (await self.aliases()).candidate != version:
            await set_candidate(self._registry, self._store, version)

    async def promote(self, version: int, epoch: int, swap_when: SwapWhen) -> Promotion | None:
        """Have a version served: ask for it once the promotion asked for last is over.

        Args:
            version: which.
            epoch: of what was served when that was decided.
            swap_when: `quiet` or `now`.

        Returns:
            The promotion asked for last, be it of another version, if it was refused; only once.
        """
        last = await self._registry.promotion(self._asked) if self._asked else None
        if last is not None and last.active:
            return None
        self._asked = None
        if last is not None and last.state == "refused":
            return last
        self._asked = await self._ask(version, epoch, swap_when)
        return None

    async def _ask(self, version: int, epoch: int, swap_when: SwapWhen) -> str | None:
        """The promotion's id; None if one is under way, or no server is there to take part."""
        registry = self._registry
        try:
            asked = await propose(
                registry, version, "promote", "trainer", swap_when, _PREPARE_S, epoch
            )
        except FencedError:
            raise
        except (ConflictError, NotReadyError) as error:
            _LOG.info("not promoted yet", extra={"version": version, "reason": error.detail})
            return None
        return asked.id
