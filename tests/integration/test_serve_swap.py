"""Swaps on real Ray Serve, over the replicas' own processes, while requests come in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import psutil
import pytest
import torch

from assay import Client
from assay.errors import ConflictError
from assay.models.loading import load
from assay.models.reward_model import RewardModel
from assay.registry.store import Store
from assay.schemas.refs import ModelRef, parse_pin
from redis_server import RedisServer
from reward_server.bench.versions import draft_copies
from serving import LATE_S, Server, free_port, score_body, started, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

NAME = "assay-minilm"
CALLERS = 4
PROMPTS = [f"Should it be number {number}?" for number in range(12)]
COMPLETIONS = ["Yes, because it is better.", "No."]


class Published:
    """A store to which new versions come, and what each of them gives offline."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(str(folder))
        base = self.store.fetch(ModelRef(NAME, 1))
        self._drafts = draft_copies(base, folder.with_name("drafts"), count(2))
        self._models: dict[int, RewardModel] = {}

    def publish(self) -> int:
        draft = next(self._drafts)
        return self.store.publish(draft, ModelRef(NAME, int(draft.name))).version

    def score(self, version: int, prompt: str) -> list[float]:
        if version not in self._models:
            self._models[version] = load(str(self.store.fetch(ModelRef(NAME, version))))
        model = self._models[version]
        texts = [model.encode(prompt, completion) for completion in COMPLETIONS]
        return [float(row.mean()) for row in model.score(texts)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Published]]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("swap")
    socket = tmp_path_factory.mktemp("r")
    redis = RedisServer(socket)
    redis.start()
    argv = ["reward_server", "--replicas", "2", "--store", str(folder / "store")]
    argv += ["--redis-url", redis.url, "--home", str(folder), "--cache-bytes", "0"]
    argv += ["--quiet-deadline-s", "3", "--torch-threads", "1"]
    (folder / "store").mkdir()
    with started(argv, free_port(), folder) as running:
        running.wait_ready()
        yield running, Published(folder / "store")
    redis.stop()


class Load:
    """One group at a time from each caller; keeps what came back."""

    def __init__(self, url: str) -> None:
        self.replies: list[tuple[str, httpx.Response]] = []
        self.broken = 0
        self._url = url
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS)

    def __enter__(self) -> Load:
        for caller in range(CALLERS):
            self._pool.submit(self._call, caller)
        until(lambda: len(self.replies) > 2 * CALLERS, LATE_S, "requests under way")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()

    def until(self, version: int) -> None:
        """Return when a version has answered."""
        name = f"{NAME}@{version}"
        known = len(self.replies)
        until(lambda: name in self._names(known), LATE_S, f"an answer of {name}")

    def _names(self, since: int) -> set[str | None]:
        return {reply.headers.get("x-assay-model") for _, reply in self.replies[since:]}

    def _call(self, caller: int) -> None:
        with httpx.Client(base_url=self._url, timeout=LATE_S) as http:
            while not self._stop.is_set():
                prompt = PROMPTS[(caller + len(self.replies)) % len(PROMPTS)]
                try:
                    reply = http.post("/v1/score", json=score_body(COMPLETIONS, prompt))
                except httpx.TransportError:
                    self.broken += 1
                else:
                    self._keep(prompt, reply)
                time.sleep(0.02)

    def _keep(self, prompt: str, reply: httpx.Response) -> None:
        if reply.status_code >= 500:  # what the ingress says of a replica that has died meanwhile
            self.broken += 1
        else:
            self.replies.append((prompt, reply))

    def check(self, published: Published) -> set[int]:
        """Every reply is right for the version that it names; returns those versions."""
        seen: dict[tuple[int, str], list[float]] = {}
        for prompt, reply in self.replies:
            assert reply.status_code == 200, reply.text
            version = parse_pin(reply.json()["model"]).version or 0
            assert reply.headers["x-assay-model"] == f"{NAME}@{version}"
            if (version, prompt) not in seen:
                seen[version, prompt] = published.score(version, prompt)
            scores = reply.json()["results"][0]["scores"]
            assert scores == pytest.approx(seen[version, prompt], abs=1e-4)
        return {version for version, _ in seen}


def test_a_new_version_is_promoted_under_load_and_rolled_back(
    server: tuple[Server, Published],
) -> None:
    running, published = server
    with Load(running.url) as load, Client(running.url) as client:
        version = published.publish()
        done = client.promote(f"{NAME}@{version}", wait_s=120)
        assert (done.state, len(done.replicas)) == ("done", 2)
        serving = client.model(NAME)
        assert (serving.id, serving.assay.replicas) == (f"{NAME}@{version}", 2)
        load.until(version)
        back = client.rollback(NAME, wait_s=120)
        assert (back.state, back.model) == ("done", f"{NAME}@1")
        assert client.promotion(back.id) == back
        with pytest.raises(ConflictError, match="serving already"):
            client.promote(f"{NAME}@1")
    assert load.broken == 0
    assert load.check(published) == {1, version}


def test_a_replica_killed_in_prepare_comes_back_with_the_version_that_serves(
    server: tuple[Server, Published],
) -> None:
    running, published = server
    with Load(running.url) as load, Client(running.url) as client:
        version = published.publish()
        victim = min(running.replicas())
        begun = client.promote(f"{NAME}@{version}")
        psutil.Process(victim).kill()
        until(lambda: client.promotion(begun.id).state == "done", LATE_S, "the promotion")
    with Client(running.url) as client:
        until(lambda: len(running.replicas() - {victim}) == 2, LATE_S, "a new replica")
        until(lambda: client.model(NAME).assay.replicas == 2, LATE_S, "both to hold it")
        names = {client.score("Is it?", ["Yes."]) and client.model(NAME).id for _ in range(20)}
    assert names == {f"{NAME}@{version}"}
    assert load.broken <= CALLERS
    load.check(published)


def test_a_damaged_version_is_refused_and_nothing_changes(
    server: tuple[Server, Published],
) -> None:
    running, published = server
    folder = published.store.fetch(ModelRef(NAME, published.publish()))
    weights = folder / "members" / "member_3" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with Client(running.url) as client:
        before = client.model(NAME).id
        with pytest.raises(ConflictError, match="member_3/adapter_model.safetensors differs"):
            client.promote(f"{NAME}@{folder.name}", wait_s=120)
        assert client.model(NAME).id == before
