"""Rules over the texts of many requests at once: off the event loop, bounded, with a deadline."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.errors import AssayError, FieldError, OverloadedError
from assay.models.inputs import as_completion_text, as_text
from reward_server.composite.rule_process import Call, RuleProcess, Verdict

if TYPE_CHECKING:
    from reward_server.composite.plan import RuleSpec
    from reward_server.metrics import ServerMetrics
    from reward_server.scoring import Text

logger = logging.getLogger(__name__)

_JOB_TEXTS = 16  # so that a large request does not keep small ones waiting
_RETRY_AFTER_S = 1.0
_MAX_LOGGED = 100


class PoolLimits(NamedTuple):
    """Bounds of a pool: processes, seconds a call, texts that may wait."""

    processes: int
    timeout_s: float
    max_texts: int


class RulePool:
    """A thread for each process that runs rules; the thread asks, waits and ends it.

    A rule that raises, hangs or ends its process gives that one text no score. It is counted, and
    logged once for each reason, at most 100 of them.

    Args:
        rules: what runs, in the order of the columns of `score`.
        limits: its bounds.
        metrics: where outcomes are counted.
    """

    def __init__(
        self, rules: Sequence[RuleSpec], limits: PoolLimits, metrics: ServerMetrics
    ) -> None:
        self._rules = rules
        self._limits = limits
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(limits.processes, thread_name_prefix="rules")
        self._processes = [RuleProcess(rules) for _ in range(limits.processes)]
        self._idle = list(self._processes)
        self._waiting = 0
        self._logged: set[tuple[str, str]] = set()
        self._closed = threading.Event()

    async def start(self) -> None:
        """Start the processes.

        Raises:
            StartupError: a rule does not load, or cannot do its work on this machine.
        """
        loop = asyncio.get_running_loop()
        starts = [loop.run_in_executor(self._threads, each.start) for each in self._processes]
        await asyncio.gather(*starts)

    async def score(self, texts: Sequence[Text], time_s: float) -> NDArray[np.float64]:
        """What each rule gives each text, shape [texts, rules]; NaN = no score.

        Raises:
            OverloadedError: too many texts wait, and nothing was begun; or the time was over before
                every text had its turn.
            InvalidInputError: a text with parts that are no text; its path is named.
        """
        if self._waiting + len(texts) > self._limits.max_texts:
            raise OverloadedError(
                f"{self._waiting} texts wait for rules, and {self._limits.max_texts} may",
                retry_after_s=_RETRY_AFTER_S,
            )
        given_up = threading.Event()
        ends_s = time.monotonic() + time_s
        loop = asyncio.get_running_loop()
        self._waiting += len(texts)
        try:
            jobs = [
                loop.run_in_executor(self._threads, self._run, job, ends_s, given_up)
                for job in _jobs(texts)
            ]
            return np.concatenate([self._nothing(0), *await asyncio.gather(*jobs)])
        finally:
            self._waiting -= len(texts)
            given_up.set()

    async def close(self) -> None:
        """End the processes, in the midst of a call if need be."""
        self._closed.set()
        for process in self._processes:
            process.interrupt()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for process in self._processes:
            process.kill()

    def _run(
        self, texts: Sequence[Text], ends_s: float, given_up: threading.Event
    ) -> NDArray[np.float64]:
        """In a thread of the pool, which has a process to itself meanwhile."""
        values = self._nothing(len(texts))
        process = self._idle.pop()
        try:
            for row, text in enumerate(texts):
                if given_up.is_set() or self._closed.is_set():
                    break
                self._judge(process, text, values[row], ends_s)
        finally:
            self._idle.append(process)
        return values

    def _nothing(self, texts: int) -> NDArray[np.float64]:
        return np.full((texts, len(self._rules)), np.nan)

    def _judge(
        self, process: RuleProcess, text: Text, row: NDArray[np.float64], ends_s: float
    ) -> None:
        """One text, until a rule has no score for it: then there is no sum either."""
        call = _call(text)
        for index, rule in enumerate(self._rules):
            left_s = ends_s - time.monotonic()
            if left_s <= 0:
                raise OverloadedError(
                    "rules have not come to every text in time", retry_after_s=_RETRY_AFTER_S
                )
            verdict = process.call(index, call, min(left_s, self._limits.timeout_s))
            self._tell(rule.name, verdict)
            if verdict.value is None:
                return
            row[index] = verdict.value

    def _tell(self, rule: str, verdict: Verdict) -> None:
        self._metrics.rules.labels(rule, verdict.outcome).inc()
        told = (rule, verdict.reason)
        if verdict.reason and told not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(told)
            extra = {"rule": rule, "outcome": verdict.outcome, "reason": verdict.reason}
            logger.warning("a rule gave a text no score", extra=extra)


def _jobs(texts: Sequence[Text]) -> list[list[Text]]:
    rest = iter(texts)
    return list(iter(lambda: list(islice(rest, _JOB_TEXTS)), []))


def _call(text: Text) -> Call:
    try:
        return Call(as_text(text.prompt), as_completion_text(text.completion), text.label)
    except AssayError as error:
        raise type(error)(error.detail, fields=(FieldError(text.path, error.detail),)) from error
