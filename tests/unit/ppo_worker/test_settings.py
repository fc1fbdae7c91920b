"""Settings from flags: defaults, the demo's, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.errors import StartupError
from ppo_worker.__main__ import main, read_settings
from ppo_worker.settings import DEMO, PPOSettings

TASK = ["--policy", "p", "--prompts", "f"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no .env


def test_the_demo_changes_defaults_and_flags_change_the_demo() -> None:
    demo = read_settings(["--demo", "--steps", "3"])
    assert demo.steps == 3
    for name, value in DEMO.items():
        assert name == "steps" or getattr(demo, name) == value
    assert demo.folder.parts[-2:] == ("ppo", "demo")
    assert read_settings(TASK).steps == PPOSettings.model_fields["steps"].default


def test_the_environment_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DEMO", "1")
    monkeypatch.setenv("ASSAY_PPO_STEPS", "7")  # no such name
    monkeypatch.setenv("ASSAY_STEPS", "9")
    assert read_settings([]).steps == 9
    assert read_settings([]).policy_name == "demo"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ([], "policy and prompts are needed, or --demo"),
        (["--policy", "p"], "policy and prompts are needed"),
        ([*TASK, "--steps", "0"], "steps: .*greater than or equal to 1"),
        ([*TASK, "--reward-clip", "0"], "reward_clip: .*greater than 0"),
        ([*TASK, "--kl-coef", "nan"], "kl_coef"),
        ([*TASK, "--temperature", "inf"], "temperature"),
        ([*TASK, "--policy-name", "a b"], "policy_name"),
        ([*TASK, "--ptx-coef", "0.1"], "ptx_coef and ptx_texts go together"),
        ([*TASK, "--steps", "4"], "critic_steps 4 leaves the policy none of 4 steps"),
        ([*TASK, "--micro-batch", "64"], "micro_batch 64 exceeds mini_batch 32"),
        ([*TASK, "--reward", "best"], "reward: .*'score', 'contrastive' or 'lcb'"),
    ],
)
def test_wrong_settings_are_one_line_that_names_them(flags: list[str], reason: str) -> None:
    with pytest.raises(StartupError, match=reason):
        read_settings(flags)


def test_the_command_refuses_with_one_line_and_code_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--steps", "1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["report", "nowhere"]) == 2
    assert "nowhere holds no steps of a run" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert main(["report", "--help"]) == 0
    assert "RUN/report.html" in capsys.readouterr().out
