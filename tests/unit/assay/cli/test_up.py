from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.cli import up
from assay.cli.main import app

Commands = tuple[list[str], list[str], list[str]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Commands]:
    """The flags that each service would have been started with: of both, server, trainer."""
    found: list[Commands] = []

    def start(_settings: object, commands: Commands, *_: object) -> int:
        found.append(commands)
        return 0

    monkeypatch.setattr(up, "_run_services", start)
    monkeypatch.setattr(up, "Interrupts", lambda: None)
    return found


@pytest.mark.parametrize(
    ("flags", "passed_on"), [([], []), (["--redis-url", "redis://b"], ["--redis-url", "redis://b"])]
)
def test_a_redis_password_in_the_environment_is_on_no_command_line(
    flags: list[str],
    passed_on: list[str],
    started: list[Commands],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSAY_REDIS_URL", "redis://:s3cret@a")
    result = CliRunner().invoke(app, ["up", "--home", str(tmp_path), *flags])
    assert result.exit_code == 0, result.output
    assert started == [(["--home", str(tmp_path), *passed_on], [], [])]


def test_each_service_gets_its_own_flags_and_both_get_model_and_store(
    started: list[Commands], tmp_path: Path
) -> None:
    flags = "--redis-url redis://b --model m --store s --port 81 --replicas 2 --promote auto"
    flags += " --update-rule joint --preferences p.jsonl"
    result = CliRunner().invoke(app, ["up", "--home", str(tmp_path), *flags.split()])
    assert result.exit_code == 0, result.output
    both, server, trainer = started[0]
    assert both == ["--home", str(tmp_path), *flags.split()[:6]]
    assert server == ["--replicas", "2", "--port", "81"]
    assert trainer == ["--preferences", "p.jsonl", "--update-rule", "joint", "--promote", "auto"]


def test_a_rule_that_there_is_not_is_refused(started: list[Commands], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["up", "--home", str(tmp_path), "--update-rule", "magic"])
    assert result.exit_code == 2
    assert not started
