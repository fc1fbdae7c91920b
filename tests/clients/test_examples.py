"""What the integrations' README prints is run as it stands, but for the size of the model."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from assay.integrations import slime
from assay.integrations import verl as integration
from native import native_score
from readme_examples import README, example
from real_clients import openrlhf_agent, verl, verl_config, verl_data

# Examples do not close their connections: a trainer's process ends with them open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CHAT = [{"role": "user", "content": "What is 2 + 2?"}]


@pytest.fixture(autouse=True)
def at_server(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a user has it: the URL in the environment, files in a folder of their own."""
    monkeypatch.setenv("ASSAY_URL", url)
    monkeypatch.chdir(tmp_path)
    yield
    for made in (slime._rewarder, integration._async_rewarder):
        made.cache_clear()
    gc.collect()


@pytest.mark.filterwarnings("default")  # what TRL and torch warn of is theirs
def test_trl(url: str, policy: Path) -> None:
    code = example("TRL", url).replace("Qwen/Qwen3-0.6B", str(policy))
    small = "max_steps=1, max_completion_length=8, report_to='none', use_cpu=True, bf16=False"
    code = code.replace("max_steps=100", small)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the README's own lines
    logged = names["trainer"].state.log_history[-1]
    assert logged["train_loss"] == pytest.approx(0.0, abs=10.0)


def test_openrlhf(url: str) -> None:
    words = shlex.split(example("OpenRLHF", url))
    endpoint = words[words.index("--reward.remote_url") + 1]
    executor = openrlhf_agent().SingleTurnAgentExecutor(endpoint)
    asked = executor._fetch_rewards_via_http(["2 + 2 = 4."], ["2 + 2 = "], [None])
    (reply,) = asyncio.run(asked)
    expected = native_score(url, "2 + 2 = ", "4.", aggregate="lcb")["score"]
    assert reply["rewards"] == [pytest.approx(expected, abs=1e-5)]


def test_verl(url: str, policy: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    words = [word.removeprefix("+") for word in shlex.split(example("verl", url)) if "=" in word]
    omegaconf = verl("omegaconf").OmegaConf
    config = omegaconf.merge(verl_config(policy), omegaconf.from_dotlist(words))

    async def scored() -> Any:
        loop = verl("verl.experimental.reward_loop.reward_loop")
        return await loop.RewardLoopWorker(config).compute_score(
            verl_data(tokenizer, CHAT, "It is 4.")
        )

    result = asyncio.run(scored())
    expected = native_score(url, CHAT, "It is 4.", aggregate="lcb")["score"]
    assert result["reward_score"] == pytest.approx(expected, abs=1e-5)


def test_slime(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(example("slime", url), {})  # noqa: S102 - the README's own lines
    printed = json.loads(capsys.readouterr().out.replace("'", '"'))
    expected = native_score(url, "What is 2 + 2?", "It is 4.")["score"]
    assert printed["score"] == pytest.approx(expected, abs=1e-5)


def test_every_module_named_there_is_there() -> None:
    modules = set(re.findall(r"assay\.integrations\.(\w+)", README.read_text()))
    files = {path.stem for path in README.parent.glob("*.py")}
    assert modules == files - {"__init__", "groups", "rewarding", "settings"}
