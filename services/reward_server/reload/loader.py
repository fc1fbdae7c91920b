"""Loading versions beside those in use: off the request path, and within the bound of memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import torch

from assay.errors import ModelLoadError
from reward_server.versions import version_of

if TYPE_CHECKING:
    from assay.models.scorer import Scorer
    from reward_server.reload.source import VersionSource
    from reward_server.versions import Versions

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class Loader:
    """Makes versions resident, one at a time.

    Args:
        source: where versions come from.
        versions: where they go to.
        max_bytes: bound on the weights of all resident versions, shared ones counted once.
    """

    def __init__(self, source: VersionSource, versions: Versions, max_bytes: int | None) -> None:
        self._source = source
        self._versions = versions
        self._max_bytes = max_bytes
        self._parked: Scorer | None = None
        self._thread = ThreadPoolExecutor(1, "load", initializer=_compute_alone)

    async def load(self, version: int, leased: set[int]) -> None:
        """Load a version, warm it up and make it resident.

        Beyond the bound, the previous version leaves the device if nobody has it leased.

        Raises:
            ModelLoadError: it cannot be loaded, or does not fit; the figures are in the message.
            DependencyError: the store does not answer.
        """
        if self.parked == version:
            scorer = await self._unpark(version, leased)
        else:
            if self._max_bytes is not None:
                size = await self._run(self._source.weight_bytes, version)
                await self._make_room(version, size, leased)
            scorer = await self._run(self._source.load, version)
            # What it shares with those that are resident, and its type, are known only now.
            size = self._resident_bytes(scorer) - self._resident_bytes()
            await self._make_room(version, size, leased)
        await self._versions.add(scorer)

    def unload(self, version: int) -> None:
        """Let a version go once nobody uses it."""
        self._versions.remove(version)

    @property
    def parked(self) -> int | None:
        """The version that waits in CPU memory."""
        return None if self._parked is None else version_of(self._parked)

    def forget(self, wanted: set[int]) -> None:
        """Drop a version that waits in CPU memory if nobody wants it."""
        if self.parked not in wanted:
            self._parked = None

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[int], Result], version: int) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, version)

    async def _unpark(self, version: int, leased: set[int]) -> Scorer:
        assert self._parked is not None  # noqa: S101 - the caller has looked
        scorer = self._parked
        size = self._resident_bytes(scorer) - self._resident_bytes()
        await self._make_room(version, size, leased)
        await self._run(lambda _: scorer.unpark(), version)
        self._parked = None
        return scorer

    async def _make_room(self, version: int, size: int, leased: set[int]) -> None:
        if self._max_bytes is None or self._resident_bytes() + size <= self._max_bytes:
            return
        previous = self._versions.previous
        if previous is not None and previous.version not in leased | {version}:
            await self._park(previous.version, previous.scorer)
        resident = self._resident_bytes()
        if resident + size > self._max_bytes:
            raise ModelLoadError(
                f"version {version} takes {size:,} bytes beside {resident:,} resident ones, and "
                f"max_resident_bytes is {self._max_bytes:,}"
            )

    async def _park(self, version: int, scorer: Scorer) -> None:
        await self._versions.remove(version)
        if await self._run(lambda _: scorer.park(), version):
            self._parked = scorer
        logger.info("previous version left the device", extra={"version": version})

    def _resident_bytes(self, *more: Scorer) -> int:
        return weight_bytes([*self._versions.scorers, *more])


def weight_bytes(scorers: Iterable[Scorer]) -> int:
    """Bytes of all weights of some versions; those that they share count once."""
    sizes = {
        storage.data_ptr(): storage.nbytes()
        for scorer in scorers
        for storage in (tensor.untyped_storage() for tensor in scorer.tensors())
    }
    return sum(sizes.values())


def _compute_alone() -> None:
    """In the loading thread: no team of OpenMP threads that the forward passes would wait for."""
    torch.set_num_threads(1)
