"""What the trainer tells: log lines, JSON lines in its folder, events on Redis, metrics."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from pathlib import Path
from typing import Any

from assay.errors import DataError, DependencyError
from assay.registry.promotions import Registry
from reward_trainer.online.drift import Drift
from reward_trainer.online.metrics import TrainerMetrics
from reward_trainer.online.state import State
from reward_trainer.online.step import StepRecord

_LOG = logging.getLogger(__name__)
_SIGNALS = ("variance", "disagreement", "length_correlation")
_POLICIES = 64  # that have metrics: names come from clients
_MOST_BYTES = 16 * 2**20


class Reports:
    """Tells people and programs what the trainer does.

    Args:
        folder: `events.jsonl` and `updates.jsonl` go there. One of over 16 MB becomes
            `events.1.jsonl` or `updates.1.jsonl`, in place of the one before.
        registry: for events.
        metrics: what is counted.
    """

    def __init__(self, folder: Path, registry: Registry, metrics: TrainerMetrics) -> None:
        self._folder, self._registry, self.metrics = folder, registry, metrics
        self._policies: dict[str, None] = {}  # that have metrics, the newest at the end

    async def tell(self, kind: str, **fields: Any) -> None:
        """An event. It is not held up by Redis being down, and then stands in the file alone."""
        _LOG.info(kind, extra=fields)
        self._write("events.jsonl", {"kind": kind, **fields})
        try:
            await self._registry.event(kind, fields)
        except DependencyError as error:
            _LOG.warning("event not sent", extra={"kind": kind, "reason": error.detail})

    def update(self, state: State, record: StepRecord, seconds: float) -> None:
        """One update. After a crash the same one may be written twice; `step` names it."""
        values = record.model_dump(mode="json")
        where = {"lineage": state.lineage, "update": state.updates, "step": state.steps}
        self._write("updates.jsonl", {**where, "seconds": round(seconds, 4), **values})
        self.metrics.update_seconds.observe(seconds)
        for name, value in values.items():
            if isinstance(value, float):
                self.metrics.last.labels(name).set(value)
        for policy, drift in record.drift.items():
            self._show(policy, drift)

    def _show(self, policy: str, drift: Drift) -> None:
        self._policies.pop(policy, None)
        self._policies[policy] = None
        if len(self._policies) > _POLICIES:
            self._forget(next(iter(self._policies)))
        for signal in _SIGNALS:
            value = getattr(drift, signal)
            if value is not None:
                self.metrics.drift.labels(policy, signal).set(value)

    def _forget(self, policy: str) -> None:
        del self._policies[policy]
        for signal in _SIGNALS:
            with contextlib.suppress(KeyError):  # it never had this one
                self.metrics.drift.remove(policy, signal)

    def _write(self, file: str, row: dict[str, Any]) -> None:
        path = self._folder / file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > _MOST_BYTES:
                path.replace(path.with_stem(f"{path.stem}.1"))
            with path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"at": round(time.time(), 3), **row}) + "\n")
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}") from error
