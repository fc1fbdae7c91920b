"""Clients whose packages differ from ours, each run by the Python of its own environment."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from native import native_score
from readme_examples import example
from real_clients import own_python

pytestmark = pytest.mark.own_environment

DRIVERS = Path(__file__).parent / "drivers"
PROMPT = "What is 2 + 2?"
COMPLETIONS = ["It is 4.", "Four.", "five"]


def driven(client: str, driver: str, *arguments: str, **variables: str) -> Any:
    """What a driver prints."""
    done = subprocess.run(
        [own_python(client), DRIVERS / driver, *arguments],
        env={**os.environ, **variables},  # noqa: TID251 - a child's
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("kind", "weight"), [("nemo_gym", 1.0), ("reward", 2.0)])
def test_verifiers_tasks_are_rewarded(url: str, kind: str, weight: float) -> None:
    texts = COMPLETIONS + [f"answer {number}" for number in range(61)]  # 64 at once
    results = driven("verifiers", "nemo_gym_task.py", url, kind, json.dumps(texts), ASSAY_URL=url)
    chat = [{"role": "user", "content": PROMPT}]
    for text, result in zip(texts, results, strict=True):
        expected = native_score(url, chat, text)
        assert result["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert result["reward"] == pytest.approx(weight * result["score"])
        assert result["metrics"]["assay_std"] == pytest.approx(expected["std"], abs=1e-5)
        assert result["metrics"]["assay_version"] == 1.0


@pytest.mark.parametrize("kind", ["nemo_gym", "reward"])
def test_verifiers_without_a_reward_has_an_error(url: str, kind: str) -> None:
    without = f"{url}/q/reward=contrastive"
    texts = json.dumps(["It is 4."])
    result = driven(
        "verifiers",
        "nemo_gym_task.py",
        without,
        kind,
        texts,
        ASSAY_URL=url,
        ASSAY_REWARD="contrastive",
        ASSAY_RETRIES="0",
    )
    assert "error" in result


def test_the_cookbooks_builder_gets_preferences(url: str) -> None:
    rewards = driven("tinker", "preference_builder.py", json.dumps(COMPLETIONS), ASSAY_URL=url)
    chat = [{"role": "user", "content": PROMPT}]
    won = dict.fromkeys(COMPLETIONS, 0.0)
    for better, worse in itertools.permutations(COMPLETIONS, 2):
        pair = {"prompt": chat, "chosen": better, "rejected": worse}
        reply = httpx.post(f"{url}/v1/strength", json={"pairs": [pair]}).json()
        preference = 2.0 * reply["results"][0]["probability"] - 1.0
        won[better] += preference
        won[worse] -= preference
    games = 2 * (len(COMPLETIONS) - 1)
    expected = [won[text] / games for text in COMPLETIONS]
    assert rewards == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("client", "heading"),
    [("verifiers", "verifiers and prime-rl"), ("tinker", "Tinker cookbook")],
)
def test_the_readmes_examples_run(url: str, tmp_path: Path, client: str, heading: str) -> None:
    code = tmp_path / "example.py"
    code.write_text(f"{example(heading, url)}\nprint('0')\n")
    assert driven(client, str(code), ASSAY_URL=url) == 0
