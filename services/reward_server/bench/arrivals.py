"""Groups that arrive at random, whatever the server does: each as requests of one completion."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from types import TracebackType
from typing import NamedTuple, Self

import httpx

GROUP = 8
_ANSWERS = (
    "Yes.",
    "No, I do not think so.",
    "It depends on who asks, and on what they want to do with it.",
    "Yes, because it has always been done this way and nobody came to harm.",
    "I would rather not say.",
    "No: it costs more than it brings in, and there are better ways.",
    "Ask somebody else about that.",
    "Yes, but only where everybody has agreed to it beforehand.",
)


class Reply(NamedTuple):
    """What came of one request; status 0 = no answer."""

    group: int
    number: int
    sent_s: float
    took_s: float
    status: int
    model: str
    score: float


def text_of(group: int, number: int) -> tuple[str, str]:
    """Prompt and completion of a request: no two groups have the same prompt."""
    return f"Question {group}: should it be allowed here?", _ANSWERS[number]


class Arrivals:
    """Sends groups from a thread of its own for as long as the block lasts.

    Args:
        urls: the servers; each request goes to one at random. May grow.
        groups_per_s: mean rate of a Poisson process.
        first_group: number of the first group.
    """

    def __init__(self, urls: list[str], groups_per_s: float, first_group: int) -> None:
        self.replies: list[Reply] = []
        self.urls = urls
        self._rate = groups_per_s
        self._groups = itertools.count(first_group)
        self._under_way: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def leave(self, url: str) -> None:
        """Send nothing more to a server, and wait until it has answered everything."""
        self.urls.remove(url)
        while self._under_way[url]:
            time.sleep(0.1)

    async def _run(self) -> None:
        async with _client() as http, asyncio.TaskGroup() as under_way:
            next_s = time.monotonic()
            while not self._stop.is_set():
                next_s += random.expovariate(self._rate)
                await asyncio.sleep(next_s - time.monotonic())
                group = next(self._groups)
                for number in range(GROUP):
                    under_way.create_task(self._send(http, group, number))

    async def _send(self, http: httpx.AsyncClient, group: int, number: int) -> None:
        url = random.choice(self.urls)
        self._under_way[url] += 1
        self.replies.append(await send(http, url, group, number))
        self._under_way[url] -= 1


async def send(http: httpx.AsyncClient, url: str, group: int, number: int) -> Reply:
    """One request."""
    prompt, completion = text_of(group, number)
    body = {"groups": [{"prompt": prompt, "completions": [completion]}]}
    sent_s = time.monotonic()
    try:
        reply = await http.post(f"{url}/v1/score", json=body)
    except httpx.TransportError:
        return Reply(group, number, sent_s, time.monotonic() - sent_s, 0, "", 0.0)
    took_s = time.monotonic() - sent_s
    if reply.status_code != 200:
        return Reply(group, number, sent_s, took_s, reply.status_code, "", 0.0)
    scored = reply.json()
    score = scored["results"][0]["scores"][0]
    return Reply(group, number, sent_s, took_s, 200, scored["model"], score)


async def measure_capacity(url: str, seconds: float, first_group: int) -> float:
    """Texts per second with 32 requests always under way."""
    ends_s = time.monotonic() + seconds
    groups = itertools.count(first_group)
    done = 0
    async with _client() as http:

        async def caller() -> None:
            nonlocal done
            while time.monotonic() < ends_s:
                group = next(groups)
                await asyncio.gather(*(send(http, url, group, n) for n in range(GROUP)))
                done += GROUP

        await asyncio.gather(*(caller() for _ in range(4)))
    return done / seconds


def _client() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx.AsyncClient(limits=limits, timeout=120.0)
