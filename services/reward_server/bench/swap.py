"""What swaps cost: open-loop load with and without promotions, on the same replicas."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from assay.cli.redis_process import EmbeddedRedis, claim_home
from assay.client import Client
from assay.models.loading import load
from assay.registry.store import Store
from assay.schemas.promotions import PromotionReply, SwapWhen
from assay.schemas.refs import ModelRef, parse_pin
from reward_server.bench.arrivals import Arrivals, Reply, measure_capacity, text_of
from reward_server.bench.server import Running, running_server
from reward_server.bench.versions import draft_copies, draft_whole
from reward_server.engine.load import silence_transformers

Fault = Literal["none", "kill", "join"]
_SHARE = 0.6  # of the capacity
_POLL_S = 0.05
_BETWEEN_S = 1.0
_TOLERANCE = 1e-4
_BATCH = 64
_CRASH_S = 0.5  # until the ingress has noticed that a replica is gone


class Plan(NamedTuple):
    """What is measured.

    Attributes:
        model: whose versions are swapped.
        whole: a whole model on its backbone in place of its adapters.
        replicas: of the server.
        swaps: promotions, each of a version that no replica has loaded before.
        seconds: length of the measurements of capacity (half of it) and without swaps.
        fault: `kill` a replica, or let one `join`, in the prepare of the middle swap.
        swap_when: `quiet` or `now`.
    """

    model: str
    whole: bool
    replicas: int
    swaps: int
    seconds: float
    fault: Fault
    swap_when: SwapWhen


class Swap(NamedTuple):
    """One promotion: seconds from the publication to its end, and of those the wait for quiet."""

    version: int
    total_s: float
    wait_s: float
    replicas: int


def run(plan: Plan, out: Path | None) -> None:
    """Measure, check every reply against its version, and print."""
    silence_transformers()
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        bench = _Bench(plan, Path(folder))
        result = bench.measure()
    _print(plan, result)
    if out is not None:
        out.write_text(json.dumps({**plan._asdict(), **result}, indent=2) + "\n", encoding="utf-8")


class _Bench:
    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._store = Store(str(folder / "store"))
        self._killed_s: float | None = None

    def measure(self) -> dict[str, float]:
        base = self._first_version()
        numbers = range(base.version + 1, base.version + 1 + self._plan.swaps)
        drafts = list(draft_copies(self._store.fetch(base), self._folder / "drafts", numbers))
        with self._redis() as url:
            flags = ["--store", str(self._folder / "store"), "--redis-url", url]
            with running_server(
                base.name, *flags, "--replicas", str(self._plan.replicas)
            ) as server:
                return self._measure(server, base, drafts, flags)

    def _first_version(self) -> ModelRef:
        pin = parse_pin(self._plan.model)
        serving = self._store.newest(pin.name)
        if serving is None:
            raise SystemExit(f"{pin.name} is not among {', '.join(self._store.names())}")
        base = ModelRef(pin.name, serving)
        if not self._plan.whole:
            return base
        whole = ModelRef(f"{base.name}-whole", 1)
        draft = draft_whole(self._store.fetch(base), self._folder / "drafts", whole)
        self._store.publish(draft, whole)
        return whole

    @contextlib.contextmanager
    def _redis(self) -> Iterator[str]:
        with claim_home(self._folder / "home") as lock:
            redis = EmbeddedRedis(self._folder / "home", lock)
            try:
                redis.wait_ready()
                yield redis.url
            finally:
                redis.end()

    def _measure(
        self, server: Running, base: ModelRef, drafts: Sequence[Path], flags: Sequence[str]
    ) -> dict[str, float]:
        seconds, urls = self._plan.seconds, [server.url]
        asyncio.run(measure_capacity(server.url, seconds / 4, 0))  # warms everything up
        capacity = asyncio.run(measure_capacity(server.url, seconds / 2, 1_000_000))
        rate = _SHARE * capacity / 8
        with Arrivals(urls, rate, 2_000_000) as still:
            time.sleep(seconds)
        with Arrivals(urls, rate, 3_000_000) as moving:
            swaps = self._swap_all(server, base, drafts, moving, flags)
        wrong = self._wrong([*still.replies, *moving.replies])
        return {"capacity_texts_per_s": capacity, **self._figures(still, moving, swaps, wrong)}

    def _swap_all(
        self,
        server: Running,
        base: ModelRef,
        drafts: Sequence[Path],
        moving: Arrivals,
        flags: Sequence[str],
    ) -> list[Swap]:
        swaps = []
        with contextlib.ExitStack() as stack, Client(server.url) as client:
            for number, draft in enumerate(drafts):
                time.sleep(_BETWEEN_S)
                middle = number == len(drafts) // 2
                if middle and self._plan.fault == "join":
                    stack.enter_context(_joining(base.name, moving, flags))
                begun_s = time.monotonic()
                ref = self._store.publish(draft, ModelRef(base.name, int(draft.name))).ref
                begun = client.promote(str(ref), swap_when=self._plan.swap_when)
                if middle and self._plan.fault == "kill":
                    self._kill(server)
                swaps.append(_follow(client, begun, begun_s, ref.version))
        return swaps

    def _kill(self, server: Running) -> None:
        self._killed_s = time.monotonic()
        os.kill(min(server.replicas()), signal.SIGKILL)

    def _wrong(self, replies: Sequence[Reply]) -> int:
        """Replies that differ from what their version gives offline."""
        by_model: dict[str, list[Reply]] = defaultdict(list)
        for reply in replies:
            if reply.status == 200:
                by_model[reply.model].append(reply)
        return sum(self._wrong_of(model, rows) for model, rows in by_model.items())

    def _wrong_of(self, model: str, replies: Sequence[Reply]) -> int:
        pin = parse_pin(model)
        scorer = load(str(self._store.fetch(ModelRef(pin.name, pin.version or 0))))
        texts = [scorer.encode(*text_of(reply.group, reply.number)) for reply in replies]
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        wrong = 0
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            expected = scorer.score([texts[row] for row in rows]).mean(axis=1)
            given = np.array([replies[row].score for row in rows])
            wrong += int((np.abs(expected - given) > _TOLERANCE).sum())
        return wrong

    def _figures(
        self, still: Arrivals, moving: Arrivals, swaps: Sequence[Swap], wrong: int
    ) -> dict[str, float]:
        failed = [each for each in moving.replies if each.status != 200]
        killed_s = self._killed_s
        by_kill = [
            each
            for each in failed
            if killed_s is not None and each.sent_s < killed_s + _CRASH_S
            if each.sent_s + each.took_s > killed_s
        ]
        p99_still, p99_moving = _p99(still.replies), _p99(moving.replies)
        return {
            "requests": len(moving.replies),
            "failed": len(failed) - len(by_kill),
            "failed_with_the_replica": len(by_kill),
            "failed_without_swaps": sum(each.status != 200 for each in still.replies),
            "mixed_groups": _mixed(moving.replies),
            "wrong_scores": wrong,
            "p50_s": median(each.took_s for each in still.replies),
            "p50_with_swaps_s": median(each.took_s for each in moving.replies),
            "p99_s": p99_still,
            "p99_with_swaps_s": p99_moving,
            "p99_ratio": p99_moving / p99_still,
            "swaps": len(swaps),
            "everywhere_s": median(each.total_s for each in swaps),
            "beyond_quiet_s": median(each.total_s - each.wait_s for each in swaps),
            "beyond_quiet_worst_s": max(each.total_s - each.wait_s for each in swaps),
            "quiet_wait_s": median(each.wait_s for each in swaps),
            "most_replicas": max(each.replicas for each in swaps),
        }


@contextlib.contextmanager
def _joining(name: str, moving: Arrivals, flags: Sequence[str]) -> Iterator[None]:
    """Start a server of one more replica, which takes part from its start on."""
    end, ready = threading.Event(), threading.Event()

    def work() -> None:
        with running_server(name, *flags) as server:
            moving.urls.append(server.url)
            ready.set()
            end.wait()
            moving.leave(server.url)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
        ready.wait()
    finally:
        end.set()
        thread.join()


def _follow(client: Client, begun: PromotionReply, begun_s: float, version: int) -> Swap:
    """Watch a promotion to its end, and time its wait for quiet."""
    seen, wait_s, at_s = begun, 0.0, time.monotonic()
    while seen.state not in ("done", "refused"):
        time.sleep(_POLL_S)
        now_s = time.monotonic()
        wait_s += now_s - at_s if seen.state == "wait" else 0.0
        at_s, seen = now_s, client.promotion(begun.id)
    if seen.state == "refused":
        raise SystemExit(f"{seen.model} was refused: {seen.reason}")
    return Swap(version, time.monotonic() - begun_s, wait_s, len(seen.replicas))


def _mixed(replies: Sequence[Reply]) -> int:
    """Groups that two versions answered."""
    models: dict[int, set[str]] = defaultdict(set)
    for reply in replies:
        if reply.status == 200:
            models[reply.group].add(reply.model)
    return sum(len(seen) > 1 for seen in models.values())


def _p99(replies: Sequence[Reply]) -> float:
    return float(np.quantile([each.took_s for each in replies], 0.99))


def _print(plan: Plan, result: dict[str, float]) -> None:
    kind = "whole model" if plan.whole else "adapters"
    title = f"{plan.swaps} swaps of {kind}, {plan.replicas} replicas, {plan.swap_when}"
    table = Table(title=title if plan.fault == "none" else f"{title}, {plan.fault}")
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
