from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.cli import up
from assay.cli.main import app


@pytest.mark.parametrize(
    ("flags", "passed_on"), [([], []), (["--redis-url", "redis://b"], ["--redis-url", "redis://b"])]
)
def test_a_redis_password_in_the_environment_is_on_no_command_line(
    flags: list[str], passed_on: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Sequence[str]] = []

    def start(flags: Sequence[str], *_: object) -> int:
        started.append(flags)
        return 0

    monkeypatch.setenv("ASSAY_REDIS_URL", "redis://:s3cret@a")
    monkeypatch.setattr(up, "_run_server", start)
    monkeypatch.setattr(up, "Interrupts", lambda: None)
    result = CliRunner().invoke(app, ["up", "--home", str(tmp_path), *flags])
    assert result.exit_code == 0, result.output
    assert started == [["--home", str(tmp_path), *passed_on]]
