"""What a Ray instance of our own starts with."""

from __future__ import annotations

import os

import pytest

from reward_server.cluster import _set_environment


def test_an_operators_variables_stay_but_those_that_switch_authentication_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    _set_environment({"OMP_NUM_THREADS": "2", "RAY_AUTH_MODE": "token"})
    assert os.environ["OMP_NUM_THREADS"] == "7"  # noqa: TID251 - it is what is tested
    assert os.environ["RAY_AUTH_MODE"] == "token"  # noqa: TID251
