"""Throughput over real texts: server, engine alone, batches of 32 in arrival order."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import httpx
from rich.console import Console
from rich.table import Table

from assay.models.scorer import EncodedInput, Scorer
from reward_server.bench.server import running_server
from reward_server.engine.load import default_batch_tokens, load_scorer
from reward_server.engine.plan import plan_batch
from reward_server.settings import ServerSettings

Text = tuple[str, str]
ARRIVAL_BATCH = 32


def run(data: Path, model: str, texts: int, connections: int, rounds: int) -> None:
    """Measure every contender once a round, on the same fresh texts, and print medians."""
    rows = read_texts(data, texts * (rounds + 1))
    scorer, _ = load_scorer(ServerSettings(model=model))
    speeds: dict[str, list[float]] = {"server": [], "engine": [], "arrival order": []}
    with running_server(model) as server:
        for number in range(rounds + 1):
            part = rows[number * texts : (number + 1) * texts]
            measured = _round(scorer, server.url, part, connections)
            if number > 0:  # the first round warms everything up
                for name, speed in measured.items():
                    speeds[name].append(speed)
    _print(speeds, texts, connections)


def _round(scorer: Scorer, url: str, texts: Sequence[Text], connections: int) -> dict[str, float]:
    return {
        "engine": _timed(len(texts), lambda: run_engine(scorer, texts, connections)),
        "server": _timed(len(texts), lambda: asyncio.run(send_all(url, texts, connections))),
        "arrival order": _timed(len(texts), lambda: run_arrival_order(scorer, texts)),
    }


def _timed(texts: int, work: Callable[[], None]) -> float:
    started_s = time.perf_counter()
    work()
    return texts / (time.perf_counter() - started_s)


def run_engine(scorer: Scorer, texts: Sequence[Text], window: int) -> None:
    """The engine in one process, fed from a window that is filled up as texts leave it."""
    coming = iter(texts)
    waiting: list[EncodedInput] = []
    while True:
        for prompt, completion in coming:
            waiting.append(scorer.encode(prompt, completion))
            if len(waiting) == window:
                break
        if not waiting:
            return
        chosen = plan_batch([len(text) for text in waiting], default_batch_tokens())
        scorer.score([waiting[index] for index in chosen])
        taken = set(chosen)
        waiting = [text for index, text in enumerate(waiting) if index not in taken]


def run_arrival_order(scorer: Scorer, texts: Sequence[Text]) -> None:
    """What a plain server does: batches of 32 as they come, padded to the longest."""
    for start in range(0, len(texts), ARRIVAL_BATCH):
        batch = texts[start : start + ARRIVAL_BATCH]
        scorer.score([scorer.encode(prompt, completion) for prompt, completion in batch])


async def send_all(url: str, texts: Sequence[Text], connections: int) -> None:
    """One completion a request, `connections` at a time, as trainers do."""
    coming = iter(texts)
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=300.0) as http:

        async def connection() -> None:
            for prompt, completion in coming:
                group = {"prompt": prompt, "completions": [completion]}
                reply = await http.post("/v1/score", json={"groups": [group]})
                reply.raise_for_status()

        await asyncio.gather(*(connection() for _ in range(connections)))


def read_texts(path: Path, wanted: int) -> list[Text]:
    """Distinct (prompt, completion) of a file of preference pairs, in its order."""
    opener = gzip.open if path.suffix == ".gz" else open
    texts: dict[Text, None] = {}
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            texts.update({(row["prompt"], row["chosen"]): None})
            texts.update({(row["prompt"], row["rejected"]): None})
            if len(texts) >= wanted:
                break
    if len(texts) < wanted:
        raise SystemExit(f"{path} has {len(texts)} texts, and {wanted} are needed")
    return list(texts)[:wanted]


def _print(speeds: dict[str, list[float]], texts: int, connections: int) -> None:
    engine = median(speeds["engine"])
    rounds = len(speeds["engine"])
    table = Table(title=f"{texts} texts a round, {connections} connections, {rounds} rounds")
    for column in ("contender", "texts/s (median)", "of the engine"):
        table.add_column(column, justify="left" if column == "contender" else "right")
    for name, values in speeds.items():
        table.add_row(name, f"{median(values):.1f}", f"{median(values) / engine:.2f}")
    Console().print(table)
