"""Every command of the README, run against `assay up`, and its answers compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reward_server.engine.load import load_parts
from reward_server.ports import PortBlock
from reward_server.settings import ServerSettings
from serving import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|json|python)\n(.*?)```", README, flags=re.DOTALL)
SHELL = [text.strip() for kind, text in BLOCKS if kind == "bash"]
DEFAULT_URL = "http://127.0.0.1:8000"


@pytest.fixture
def server(up: Server) -> Server:
    return up


def run(command: str, server: Server) -> str:
    """Run a command of the README in the repository, at the test's port, with the test's Python."""
    return in_folder(ROOT, command.replace(DEFAULT_URL, server.url), {"ASSAY_URL": server.url})


def in_folder(folder: Path, command: str, variables: dict[str, str] | None = None) -> str:
    """Run a command of the README with the test's Python."""
    command = command.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    environment = {**os.environ, **(variables or {})}  # noqa: TID251 - a child's
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_close(actual: Any, expected: Any) -> None:
    """Equal, but for the last digits of numbers: machines add up in different orders."""
    if isinstance(expected, float):
        assert actual == pytest.approx(expected, abs=1e-3)
    elif isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(actual[key], value)
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_close(one, other)
    else:
        assert actual == expected


def test_the_first_curl_gives_the_answer_that_is_printed(server: Server) -> None:
    (command,) = (text for text in SHELL if "/v1/score" in text)
    (answer,) = (text for kind, text in BLOCKS if kind == "json" and "tokens" in text)
    assert_close(json.loads(run(command, server)), json.loads(answer))


def test_baselines_are_stored_and_compared_with(server: Server) -> None:
    (command,) = (text for text in SHELL if "/v1/baselines" in text)
    (answers,) = (text for kind, text in BLOCKS if kind == "json" and "baseline" in text)
    assert_close(two_objects(run(command, server)), two_objects(answers))


def two_objects(text: str) -> list[Any]:
    """What two commands have printed, one after the other."""
    first, end = json.JSONDecoder().raw_decode(text)
    return [first, json.loads(text[end:])]


def test_the_open_ports_are_the_ones_that_it_names() -> None:
    first = PortBlock(20_000)
    assert f"({first.stats} and {first.metrics};" in README


def test_the_python_example_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = (text for kind, text in BLOCKS if kind == "python")
    exec(code.replace(DEFAULT_URL, server.url), {})  # noqa: S102 - the README's own lines
    assert re.fullmatch(r"\[.+, .+\] \[.+, .+\]\n", capsys.readouterr().out)


def test_versions_are_listed(server: Server) -> None:
    (command,) = (text for text in SHELL if "assay models list" in text)
    assert "released" in run(command, server)


def test_scoring_from_the_shell(server: Server) -> None:
    (command,) = (text for text in SHELL if "assay score" in text)
    output = run(command, server)
    assert "assay-minilm@1" in output
    assert "It is 4." in output


@pytest.mark.parametrize("command", [text for text in SHELL if "make " in text])
def test_make_commands_are_targets_that_start_what_the_readme_says(command: str) -> None:
    # CI runs `make check` and this module `assay up`; here: that the targets hang together.
    shown = subprocess.run(
        ["bash", "-euc", command.replace("make ", "make --dry-run ")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = "pytest" if command.endswith("test") else "assay up"
    assert expected in shown.stdout


def test_the_composite_is_one_that_a_server_starts_with(tmp_path: Path) -> None:
    (blend,) = (text for kind, text in BLOCKS if kind == "json" and '"rule"' in text)
    settings = ServerSettings(_env_file=None, home=tmp_path, components=blend)
    assert load_parts(settings) is not None


def test_the_training_command_takes_the_flags_that_are_printed() -> None:
    (command,) = (text for text in SHELL if "assay fit --recipe default" in text)
    flags = re.findall(r"--\w+", command)
    python = Path(sys.executable).parent
    shown = subprocess.run(
        [f"{python}/assay", "fit", "--help"], capture_output=True, text=True, check=True
    )
    assert all(flag in shown.stdout for flag in flags)


def made_pairs(count: int) -> str:
    """Pairs by construction: a sentence against its own words in reverse."""
    rows = []
    for number in range(count):
        words = (
            f"It is number {number}, since {number - 1} and one make {number} when added.".split()
        )
        row = {"prompt": f"What comes after {number - 1}?", "chosen": " ".join(words)}
        rows.append(json.dumps({**row, "rejected": " ".join(reversed(words))}))
    return "\n".join(rows)


def test_own_pairs_are_measured_trained_on_and_compared(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(made_pairs(60))
    (tmp_path / "held-out.jsonl").write_text(made_pairs(20))
    (training,) = (text for text in SHELL if "assay strength" in text)
    (denoising,) = (text for text in SHELL if "assay denoise" in text)
    compared = in_folder(tmp_path, training)
    assert "mine@1" in compared
    assert "assay-minilm@1" in compared
    assert len(list((tmp_path / "strength").glob("*.png"))) == 2
    in_folder(tmp_path, denoising)
    row = json.loads((tmp_path / "train.jsonl").read_text().splitlines()[0])
    assert {"margin", "denoise_flipped"} <= row.keys()


def test_the_demo_of_ppo_trains_and_is_drawn(server: Server, tmp_path: Path) -> None:
    (commands,) = (text for text in SHELL if "assay ppo" in text)
    short = {
        "STEPS": 1,
        "CRITIC_STEPS": 0,
        "PROMPTS_PER_STEP": 2,
        "MAX_NEW_TOKENS": 8,
        "BASELINES": 1,
    }
    variables = {f"ASSAY_{name}": str(value) for name, value in short.items()}
    variables |= {"HOME": str(tmp_path), "ASSAY_URL": server.url, "ASSAY_HELD_OUT_COMPLETIONS": "1"}
    in_folder(tmp_path, commands, variables)
    assert "after 1 steps" in (tmp_path / ".assay/ppo/demo/report.html").read_text()


def test_every_command_is_covered_here() -> None:
    known = {"/v1/score", "/v1/baselines", "make ", "assay score", "assay fit", "assay denoise"}
    known |= {"assay models list", "assay ppo"}
    assert all(any(word in text for word in known) for text in SHELL)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists()
