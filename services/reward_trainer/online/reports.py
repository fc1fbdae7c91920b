"""What the trainer tells: log lines, JSON lines in its folder, events on Redis, metrics."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from assay.errors import DataError, DependencyError
from assay.registry.promotions import Registry
from reward_trainer.online.metrics import TrainerMetrics
from reward_trainer.online.state import State
from reward_trainer.online.step import StepRecord

_LOG = logging.getLogger(__name__)
_SIGNALS = ("variance", "disagreement", "length_correlation")


class Reports:
    """Tells people and programs what the trainer does.

    Args:
        folder: `events.jsonl` and `updates.jsonl` go there.
        registry: for events.
        metrics: what is counted.
    """

    def __init__(self, folder: Path, registry: Registry, metrics: TrainerMetrics) -> None:
        self._folder, self._registry, self.metrics = folder, registry, metrics

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
            for signal in _SIGNALS:
                value = getattr(drift, signal)
                if value is not None:
                    self.metrics.drift.labels(policy, signal).set(value)

    def _write(self, file: str, row: dict[str, Any]) -> None:
        path = self._folder / file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"at": round(time.time(), 3), **row}) + "\n")
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}") from error
