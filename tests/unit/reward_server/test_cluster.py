"""What a Ray instance of our own starts with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assay.errors import StartupError
from reward_server.cluster import _set_environment, check_host, usable_cores


def test_an_operators_variables_stay_but_those_that_switch_authentication_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    _set_environment({"OMP_NUM_THREADS": "2", "RAY_AUTH_MODE": "token"})
    assert os.environ["OMP_NUM_THREADS"] == "7"  # noqa: TID251 - it is what is tested
    assert os.environ["RAY_AUTH_MODE"] == "token"  # noqa: TID251


def test_several_machines_need_a_host_that_they_reach() -> None:
    machines = {"10.0.0.1", "10.0.0.2"}
    with pytest.raises(StartupError, match="--host 0.0.0.0"):
        check_host("127.0.0.1", machines)
    check_host("0.0.0.0", machines)  # noqa: S104 - nothing is bound
    check_host("127.0.0.1", {"10.0.0.1"})


@pytest.mark.parametrize(("line", "cores"), [("100000 100000", 1), ("150000 100000", 2)])
def test_a_containers_limit_counts_as_its_cores(
    line: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    quota = tmp_path / "cpu.max"
    quota.write_text(f"{line}\n")
    assert usable_cores(quota) == cores


@pytest.mark.parametrize("line", ["max 100000", ""])
def test_without_a_limit_all_cores_count(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "cpu.max").write_text(line)
    assert usable_cores(tmp_path / "cpu.max") == 64
    assert usable_cores(tmp_path / "none") == 64
