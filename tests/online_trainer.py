"""A tiny model in a store, stored pairs and samples: what the online trainer works on in tests."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import torch
from prometheus_client import CollectorRegistry

from assay.models.manifest import Manifest
from assay.models.saving import save
from assay.registry.fence import FencedError
from assay.schemas.storage import Sample
from reward_trainer.fit.ensemble import Ensemble
from reward_trainer.fit.measuring import input_pairs
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import load_recipe
from reward_trainer.fit.scorer import StepScorer, model_weights
from reward_trainer.online.metrics import TrainerMetrics
from reward_trainer.online.settings import TrainerSettings
from reward_trainer.online.starting import train
from tiny_models import save_family

NAME = "toy"
WORDS = ("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "haven")


def save_model(
    store: Path, family: str = "bert", members: int = 2, adapter: str = "lora", version: int = 1
) -> Path:
    """A random ensemble as `toy@1`, over a random backbone beside the store."""
    backbone = store.parent / f"backbone-{family}"
    if not backbone.exists():
        save_family(family, backbone)
    changes: dict[str, Any] = {"trunk_layers": 1} if adapter == "lora" else {}
    recipe = load_recipe(
        "bt",
        {
            "backbone": str(backbone),
            "members": members,
            "adapter": adapter,
            "max_tokens": 64,
            "seed": version,
            **changes,
        },
    )
    ensemble = Ensemble(recipe, "cpu")
    weights = []
    for index in range(members):
        scorer = StepScorer(ensemble.fresh(index))
        weights.append(model_weights(scorer.state_dict(), scorer))
    lora = adapter == "lora"
    manifest = Manifest(
        name=NAME,
        version=version,
        created=0,
        kind="adapters" if lora else "whole",
        members=["."],
        backbone=ensemble.backbone if lora else None,
        trunk_layers=1 if lora else 0,
        input_format=ensemble.encoder(64).format,
        max_tokens=64,
    )
    encoder = ensemble.encoder(64)
    pairs = [Pair("", i, "", f"q{i}", f"ab{word}", f"yz{word}") for i, word in enumerate(WORDS)]
    return save(ensemble.trained(weights), encoder, manifest, store, input_pairs(encoder, pairs))


def write_pairs(path: Path, count: int = 40) -> Path:
    """Pairs in which `abab...` beats `yzyz...`."""
    rows = [
        {"prompt": f"question {i} on {WORDS[i % 8]}", "chosen": f"abab{i}", "rejected": f"yzyz{i}"}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sample(number: int, k: int = 4, **changes: Any) -> Sample:
    """Completions that differ, on a prompt of their own."""
    words = [WORDS[(number + step) % 8] for step in range(k)]
    completions = [f"{word} {step * 7 + number} {word[::-1]}" for step, word in enumerate(words)]
    fields = {"prompt": f"prompt {number}", "completions": completions, "policy": "ppo"}
    return Sample.model_validate({**fields, "step": number, **changes})


def fields(item: Sample) -> dict[str, str]:
    """A sample as it stands in the stream."""
    return {"schema": "1", "data": item.model_dump_json(exclude_unset=True)}


class ForkedTrainer:
    """`assay train` in a process of its own, which may be killed.

    It is forked off one that has imported torch and done nothing with it: after torch has computed,
    a fork of it may hang.
    """

    def __init__(self, settings: TrainerSettings) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["reward_trainer.online.starting"])
        self._process = context.Process(target=_run, args=(settings,))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 240.0) -> int | None:
        """The exit code; negative for a signal, None if it still runs."""
        self._process.join(timeout_s)
        return self._process.exitcode

    def end(self) -> None:
        """Kill it, if it still runs."""
        self._process.kill()
        self._process.join()


def _run(settings: TrainerSettings) -> None:
    torch.set_num_threads(1)
    try:
        asyncio.run(train(settings, TrainerMetrics(CollectorRegistry())))
    except FencedError:
        os._exit(3)
    os._exit(0)


def trainer_settings(home: Path, redis_url: str, **changes: Any) -> TrainerSettings:
    """A trainer of `toy` that makes a version every third update; no environment changes it."""
    fields = {
        "home": home,
        "redis_url": redis_url,
        "model": NAME,
        "preferences": str(home / "pairs.jsonl"),
        "update_rule": "shared_moments",
        "learning_rate": 3e-4,
        "pairs_per_update": 4,
        "groups_per_update": 3,
        "publish_updates": 3,
        "join_span": 6,
        "k_max": 4,
        "torch_threads": 1,
        "nice": 0,
        "device": "cpu",
        "lease_ttl_s": 1.0,
        "log_level": "WARNING",
    }
    return TrainerSettings(_env_file=None, **{**fields, **changes})


def make_home(home: Path, **model: Any) -> Path:
    """A home folder with `toy@1` and pairs."""
    home.mkdir(parents=True, exist_ok=True)
    save_model(home / "store", **model)
    write_pairs(home / "pairs.jsonl")
    return home


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
