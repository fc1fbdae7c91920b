"""Latency of one short completion on an idle server, beside the forward pass alone."""

from __future__ import annotations

import time
from statistics import median

import httpx
from rich.console import Console
from rich.table import Table

from assay.models.scorer import Scorer
from reward_server.bench.server import running_server
from reward_server.engine.load import load_scorer
from reward_server.settings import ServerSettings

PROMPT = "What is the capital of France?"
_PAUSE_S = 0.05  # OpenMP threads spin on for a while after a forward pass; idle means without them


def run(model: str, requests: int, rounds: int) -> None:
    """Measure both in turns, request by request, and print the medians of all rounds."""
    scorer, _ = load_scorer(ServerSettings(model=model))
    forward_s: list[float] = []
    served_s: list[float] = []
    with running_server(model) as server, httpx.Client(base_url=server.url, timeout=60.0) as http:
        for number in range(requests * (rounds + 1)):
            completion = f"It is Paris, answer {number}."
            alone, served = _forward(scorer, completion), _request(http, completion)
            if number >= requests:  # the first round warms everything up
                forward_s.append(alone)
                served_s.append(served)
    _print(forward_s, served_s)


def _forward(scorer: Scorer, completion: str) -> float:
    time.sleep(_PAUSE_S)
    started_s = time.perf_counter()
    scorer.score([scorer.encode(PROMPT, completion)])
    return time.perf_counter() - started_s


def _request(http: httpx.Client, completion: str) -> float:
    time.sleep(_PAUSE_S)
    started_s = time.perf_counter()
    group = {"prompt": PROMPT, "completions": [completion]}
    http.post("/v1/score", json={"groups": [group]}).raise_for_status()
    return time.perf_counter() - started_s


def _print(forward_s: list[float], served_s: list[float]) -> None:
    forward_ms, served_ms = median(forward_s) * 1e3, median(served_s) * 1e3
    table = Table(title=f"one short completion, idle, {len(served_s)} requests")
    table.add_column("what")
    table.add_column("median ms", justify="right")
    table.add_row("forward pass with tokenizing", f"{forward_ms:.2f}")
    table.add_row("over HTTP and Ray Serve", f"{served_ms:.2f}")
    table.add_row("added", f"{served_ms - forward_ms:.2f}")
    Console().print(table)
