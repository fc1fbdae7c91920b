"""The online trainer: one update after another, so that a kill anywhere loses and repeats none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from redis.asyncio import Redis

from assay.errors import DataError, DependencyError, ScoringError
from assay.registry.promotions import Registry
from assay.schemas.refs import ModelRef
from reward_trainer.online.checkpoint import newest_token, write_checkpoint
from reward_trainer.online.crash import Crash
from reward_trainer.online.following import Following, Served, meaning
from reward_trainer.online.groups import Dropped
from reward_trainer.online.lease import Lease
from reward_trainer.online.preferences import Stored
from reward_trainer.online.publishing import Publisher
from reward_trainer.online.reports import Reports
from reward_trainer.online.resuming import resume
from reward_trainer.online.settings import TrainerSettings
from reward_trainer.online.state import State
from reward_trainer.online.stream import Entry, Letter, SampleReader
from reward_trainer.online.versions import Versions
from reward_trainer.online.watch import warnings

_UNSAVED_ENTRIES = 1000  # a stream of nothing but dead letters has to be cleared too
_RETRY_S = 0.5
_LAST_TRIES = 3  # of what needs Redis, once the trainer is to end
_PAUSED_S = 1.0
_CANCEL_S = 1.0
_REMEDY = (
    "promote or roll back; or start once with --resume (`assay train`) or ASSAY_RESUME=true "
    "(`assay up`)"
)
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class Trainer:
    """Consumes the stream of samples until it is cancelled.

    Args:
        settings: see there.
        redis: with the stream and the board.
        versions: of the model that is trained.
        stored: preference pairs.
        reports: what people are told.
        is_wanted: the training ends in order when this says no.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        redis: Redis,
        versions: Versions,
        stored: Stored,
        reports: Reports,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings, self._versions, self._stored = settings, versions, stored
        self._reports = reports
        self._folder = settings.folder / versions.name
        self._crash = Crash(settings.crash_at)
        self._lease = Lease(redis, settings.lease_ttl_s, lambda: newest_token(self._checkpoints))
        self._reader = SampleReader(redis, self._lease)
        registry = Registry(redis, versions.name, self._lease.held)
        self._following = Following(registry, versions.store, versions.released())
        self._publisher = Publisher(
            versions, stored.evidence, stored.recipe, self._folder / "draft", self._crash
        )
        self._unsaved: list[str] = []
        self._is_wanted, self._stopping = is_wanted, False

    @property
    def _checkpoints(self) -> Path:
        return self._folder / "checkpoints"

    @property
    def state(self) -> State:
        """Where the trainer is."""
        return self._learning.state

    async def run(self) -> None:
        """Train until `stop`, or until something cannot be put right.

        Raises:
            FencedError: another trainer has taken over.
            DependencyError: Redis was down at the end: what was not saved will be done again.
            AssayError: a version cannot be loaded, the disk is full ...
        """
        if not await self._lease.wait(self._ending):
            return
        tasks = [asyncio.create_task(self._train()), asyncio.create_task(self._lease.keep())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                await _ended(task)
        await self._lease.release()

    def stop(self) -> None:
        """Have `run` end after the update at hand, with a checkpoint."""
        self._stopping = True

    async def _train(self) -> None:
        await self._start()
        while not self._ending():
            await self._follow()
            if self.state.paused is not None:
                await asyncio.sleep(_PAUSED_S)
                continue
            await self._learn()  # a kill may have left groups that are complete
            entries = await self._insist(lambda: self._reader.read(self.state.last_id))
            for entry in entries:
                if self._halted():
                    break  # what is left of them is read again
                await self._take(entry)
            if not entries and self._unsaved:
                await self._save()
        if self._unsaved:
            await self._save()

    def _halted(self) -> bool:
        return self._ending() or self.state.paused is not None

    def _ending(self) -> bool:
        return self._stopping or not self._is_wanted()

    async def _start(self) -> None:
        served = await self._insist(self._following.served)
        self._learning = await asyncio.to_thread(
            resume, self._settings, self._versions, self._stored, self._checkpoints, served
        )
        state = self.state
        await self._save()  # whatever a trainer before us still writes is older
        await self._insist(lambda: self._reader.start(state.last_id))
        await self._insist(lambda: self._reader.acknowledge([state.last_id]))  # if it was killed
        await self._reports.tell(
            "started",
            parent=str(self._ref(state.parent)),
            updates=state.updates,
            rule=self._settings.update_rule,
        )

    async def _take(self, entry: Entry) -> None:
        """One entry, with the updates that it completes."""
        state, settings = self.state, self._settings
        found = state.intake.take(entry.id, entry.fields, self._learning.encode, settings.limits)
        state.last_id = entry.id
        self._unsaved.append(entry.id)
        self._reports.metrics.entries.labels("read").inc()
        await self._bury([item for item in found if isinstance(item, Dropped)])
        state.queue += [
            item.group for item in found if not isinstance(item, Dropped) and item.use == "train"
        ]
        await self._learn()
        if len(self._unsaved) >= _UNSAVED_ENTRIES:
            await self._save()

    async def _bury(self, dropped: list[Dropped]) -> None:
        letters = [
            Letter(entry, item.reason, data)
            for item in dropped
            for entry, data in zip(item.ids, item.data, strict=True)
        ]
        if letters:
            await self._insist(lambda: self._reader.bury(letters))
            self._crash.at("during_dead_letter")
            self._reports.metrics.entries.labels("dead").inc(len(letters))

    async def _learn(self) -> None:
        """Every update for which there are groups."""
        while len(self.state.queue) >= self._settings.groups_per_update and not self._halted():
            await self._update()

    async def _update(self) -> None:
        started = time.perf_counter()
        try:
            record = await asyncio.to_thread(self._learning.step)
        except ScoringError as error:
            await self._rejected(error.detail)
        else:
            self._reports.update(self.state, record, time.perf_counter() - started)
            await self._warn()
            if self.state.updates % self._settings.publish_updates == 0:
                await self._publish()
        if self.state.updates % self._settings.checkpoint_updates == 0:
            await self._save()

    async def _warn(self) -> None:
        for warned in warnings(self.state.history):
            if warned.key not in self.state.warned:
                self.state.warned.append(warned.key)
                self._reports.metrics.warnings.labels(warned.kind).inc()
                await self._reports.tell(warned.kind, about=warned.about, detail=warned.detail)

    async def _publish(self) -> None:
        anchor = await self._insist(self._following.anchor)
        judged = await asyncio.to_thread(self._publisher.make, self._learning, anchor)
        await self._insist(self._lease.take)
        await asyncio.to_thread(self._publisher.publish, judged)
        verdict = "candidate" if judged.report.passed else "rejected"
        self._reports.metrics.versions.labels(verdict).inc()
        fields = {"version": str(self._ref(judged.version)), "shift": judged.report.shift}
        if not judged.report.passed:
            await self._reports.tell(verdict, **fields, reasons=judged.report.reasons)
            await self._rejected("; ".join(judged.report.reasons))
            return
        state = self.state
        state.passed.append(judged.version)
        state.parent, state.rejections = judged.version, 0
        await self._insist(lambda: self._following.nominate(judged.version))
        automatic = self._settings.promote == "auto" and not judged.report.manual_only
        if automatic:
            state.wanted = judged.version
        await self._reports.tell(
            verdict,
            **fields,
            promote="auto" if automatic else "manual",
            manual_only=judged.report.manual_only,
        )

    async def _rejected(self, reason: str) -> None:
        """Go back to the parent; pause when that has happened too often in a row."""
        state = self.state
        state.rejections += 1
        await asyncio.to_thread(self._learning.return_to, state.parent)
        await self._reports.tell("returned", parent=str(self._ref(state.parent)), reason=reason)
        if state.rejections >= self._settings.max_rejections:
            state.paused = f"{state.rejections} rejections in a row, the last: {reason}"
            await self._reports.tell("paused", reason=state.paused, remedy=_REMEDY)
        self._reports.metrics.paused.set(state.paused is not None)

    async def _follow(self) -> None:
        """Take note of what is served, and ask for what should be."""
        with contextlib.suppress(DependencyError):
            served = await self._following.served()
            what = meaning(self.state, served)
            if what == "own":
                await self._go_on(served)
                await self._reports.tell("promoted", version=str(self._ref(served.version)))
            elif what == "foreign":
                await self._restart(served)
            await self._promote()

    async def _restart(self, served: Served) -> None:
        """Somebody has decided otherwise: drop the candidate, start anew from what is served."""
        state = self.state
        if (await self._following.aliases()).candidate in state.passed:
            await self._following.nominate(None)
        await asyncio.to_thread(self._learning.return_to, served.version)
        state.passed, state.wanted = [], None
        await self._go_on(served)
        await self._reports.tell("restarted", serving=str(self._ref(served.version)))

    async def _go_on(self, served: Served) -> None:
        """Train on what comes next, even after a pause: somebody has looked."""
        state = self.state
        state.serving, state.epoch = served
        if state.paused is not None:
            await self._insist(lambda: self._reader.start(state.last_id))
        state.rejections, state.paused = 0, None
        self._reports.metrics.paused.set(0)
        await self._save()

    async def _promote(self) -> None:
        state = self.state
        if state.wanted is None or state.wanted <= state.serving:
            state.wanted = None
            return
        refused = await self._following.promote(state.wanted, state.epoch, self._settings.swap_when)
        if refused is None:
            return
        if refused.version == state.wanted:
            state.wanted = None
        await self._reports.tell(
            "refused", version=str(self._ref(refused.version)), reason=refused.reason
        )

    async def _save(self) -> None:
        """Checkpoint, then acknowledge and trim what it covers."""
        self._crash.at("before_checkpoint")
        await self._insist(self._lease.take)
        state = self.state
        state.token = self._lease.token
        state.saves += 1
        tensors = self._learning.tensors()
        try:
            await asyncio.to_thread(write_checkpoint, self._checkpoints, state, tensors)
        except DataError:
            await self._insist(self._lease.take)  # whoever took over deletes what is half written
            raise
        self._crash.at("after_checkpoint")
        ids = self._unsaved
        self._crash.at("before_ack")
        if ids:
            await self._insist(lambda: self._reader.acknowledge(ids))
        self._unsaved = []

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Do it, if need be when Redis is back; a trainer that is to end does not wait for that."""
        tries = 0
        while True:
            try:
                return await call()
            except DependencyError as error:
                tries += 1
                if self._ending() and tries >= _LAST_TRIES:
                    raise
                if tries == 1:
                    _LOG.warning("waiting for Redis", extra={"reason": error.detail})
                await asyncio.sleep(_RETRY_S)

    def _ref(self, version: int) -> ModelRef:
        return self._versions.ref(version)


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel a task until it is done: a timeout of Redis that comes just then hides the first."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_S)
    if not task.cancelled():
        task.exception()  # it has been raised, or there is none
