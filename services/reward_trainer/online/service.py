"""The online trainer: one update after another, so that a kill anywhere loses and repeats none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from redis.asyncio import Redis

from assay.errors import DataError, DependencyError, ScoringError
from assay.registry.promotions import Registry
from assay.schemas.refs import ModelRef
from reward_trainer.online.checkpoint import newest_token, read_checkpoint, write_checkpoint
from reward_trainer.online.crash import Crash
from reward_trainer.online.following import Following, meaning
from reward_trainer.online.groups import Dropped, Joining
from reward_trainer.online.intake import Intake
from reward_trainer.online.learning import Learning
from reward_trainer.online.lease import Lease
from reward_trainer.online.preferences import Stored
from reward_trainer.online.publishing import Publisher
from reward_trainer.online.reports import Reports
from reward_trainer.online.settings import TrainerSettings
from reward_trainer.online.state import State
from reward_trainer.online.stream import START, Entry, Letter, SampleReader
from reward_trainer.online.versions import Versions
from reward_trainer.online.watch import warnings

_UNSAVED_ENTRIES = 1000  # a stream of nothing but dead letters has to be cleared too
_RETRY_S = 0.5
_PAUSED_S = 1.0
_CANCEL_S = 1.0
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
        self._lease = Lease(redis, settings.lease_ttl_s, newest_token(self._checkpoints))
        self._reader = SampleReader(redis, self._lease)
        registry = Registry(redis, versions.name)
        self._following = Following(registry, versions.store, versions.released())
        self._publisher = Publisher(
            versions, stored.evidence, stored.recipe, self._folder / "draft", self._crash
        )
        self._unsaved: list[str] = []
        self._asked: str | None = None  # id of the promotion that was asked for
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
        """Have `run` end after the entry at hand, with a checkpoint."""
        self._stopping = True

    async def _train(self) -> None:
        await self._start()
        while not self._ending():
            await self._follow()
            if self.state.paused is not None:
                await asyncio.sleep(_PAUSED_S)
                continue
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
        serving = await self._insist(self._following.serving)
        self._learning = await asyncio.to_thread(self._begin, serving)
        state = self.state
        if self._settings.resume:
            state.paused, state.rejections = None, 0
        await self._save()  # whatever a trainer before us still writes is older
        await self._insist(lambda: self._reader.start(state.last_id))
        await self._reports.tell(
            "started",
            parent=str(self._ref(state.parent)),
            updates=state.updates,
            rule=self._settings.update_rule,
        )

    def _begin(self, serving: int) -> Learning:
        checkpoint = read_checkpoint(self._checkpoints)
        parts = self._settings, self._versions, self._stored.preferences
        if checkpoint is None:
            return Learning(*parts, self._first_state(serving))
        state = checkpoint.state
        state.intake.joining.k_max = self._settings.k_max
        state.intake.joining.join_span = self._settings.join_span
        if state.recipe == self._stored.digest:
            return Learning.resumed(*parts, checkpoint)
        state.recipe, state.serving, state.passed, state.wanted = (
            self._stored.digest,
            serving,
            [],
            None,
        )
        learning = Learning(*parts, state)
        learning.return_to(serving)
        return learning

    def _first_state(self, serving: int) -> State:
        joining = Joining(k_max=self._settings.k_max, join_span=self._settings.join_span)
        return State(
            model=self._versions.name,
            lineage=uuid.uuid4().hex,
            parent=serving,
            serving=serving,
            last_id=START,
            intake=Intake(joining=joining),
            recipe=self._stored.digest,
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
        while len(state.queue) >= settings.groups_per_update and state.paused is None:
            await self._update()
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
            await self._reports.tell(
                "paused", reason=state.paused, remedy="promote or roll back, or start with --resume"
            )
        self._reports.metrics.paused.set(state.paused is not None)

    async def _follow(self) -> None:
        """Take note of what is served, and ask for what should be."""
        with contextlib.suppress(DependencyError):
            serving = await self._following.serving()
            what = meaning(self.state, serving)
            if what == "own":
                self.state.serving = serving
                await self._reports.tell("promoted", version=str(self._ref(serving)))
            elif what == "foreign":
                await self._restart(serving)
            await self._promote(serving)

    async def _restart(self, serving: int) -> None:
        """Somebody has decided otherwise: drop the candidate, start anew from what is served."""
        state = self.state
        if (await self._following.aliases()).candidate in state.passed:
            await self._following.nominate(None)
        await asyncio.to_thread(self._learning.return_to, serving)
        state.serving, state.passed, state.wanted = serving, [], None
        if state.paused is not None:
            await self._insist(lambda: self._reader.start(state.last_id))
        state.rejections, state.paused = 0, None
        self._reports.metrics.paused.set(0)
        await self._reports.tell("restarted", serving=str(self._ref(serving)))
        await self._save()

    async def _promote(self, serving: int) -> None:
        wanted = self.state.wanted
        if wanted is None or wanted <= serving:
            self.state.wanted = self._asked = None
        elif self._asked is None:
            promotion = await self._following.promote(wanted, self._settings.swap_when)
            self._asked = promotion.id if promotion else None
        else:
            promotion = await self._following.promotion(self._asked)
            if promotion is None:
                self._asked = None  # Redis has lost it: ask again
            elif promotion.state == "refused":
                self.state.wanted = self._asked = None
                await self._reports.tell(
                    "refused", version=str(self._ref(wanted)), reason=promotion.reason
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
        """Do it, if need be when Redis is back."""
        told = False
        while True:
            try:
                return await call()
            except DependencyError as error:
                if not told:
                    _LOG.warning("waiting for Redis", extra={"reason": error.detail})
                    told = True
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
