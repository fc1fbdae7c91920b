"""A mistake in the settings costs one line, exit code 2 and no Ray."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serving import free_port
from tiny_models import save_family

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("bert", tmp_path_factory.mktemp("models") / "tiny")


def refused(*flags: str, cwd: Path) -> str:
    """The one line with which the server refuses to start."""
    done = subprocess.run(
        [sys.executable, "-m", "reward_server", *flags],
        cwd=cwd,
        env={**os.environ, "ASSAY_PORT": str(free_port())},  # noqa: TID251 - a child's
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_taken_port_is_named(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        line = refused("--port", port, "--model", str(model), cwd=tmp_path)
    assert f"127.0.0.1:{port}" in line
    assert "already in use" in line


def test_missing_model_is_named(tmp_path: Path) -> None:
    assert "nowhere" in refused("--model", "./nowhere", cwd=tmp_path)


def test_without_keys_only_loopback_is_bound(model: Path, tmp_path: Path) -> None:
    assert "ASSAY_KEYS" in refused("--host", "0.0.0.0", "--model", str(model), cwd=tmp_path)  # noqa: S104 - it is refused


def test_store_that_is_a_file_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    line = refused("--store", str(tmp_path / "store"), "--model", str(model), cwd=tmp_path)
    assert "store" in line


def test_store_without_a_parent_folder_is_refused(model: Path, tmp_path: Path) -> None:
    line = refused("--store", str(tmp_path / "no" / "store"), "--model", str(model), cwd=tmp_path)
    assert str(tmp_path / "no") in line


def test_value_of_the_wrong_type_names_its_setting(tmp_path: Path) -> None:
    assert "port" in refused("--port", "99999", cwd=tmp_path)


def test_a_wrong_key_is_not_repeated(tmp_path: Path) -> None:
    assert "s3cret" not in refused("--keys", "s3cret:fly", cwd=tmp_path)


def test_ray_cluster_is_joined_only_with_keys(model: Path, tmp_path: Path) -> None:
    assert "ASSAY_KEYS" in refused("--address", "auto", "--model", str(model), cwd=tmp_path)


def test_ray_cluster_is_joined_only_with_a_shared_store(model: Path, tmp_path: Path) -> None:
    flags = ("--address", "auto", "--keys", "key", "--model", str(model))
    assert "--shared-store" in refused(*flags, cwd=tmp_path)


def test_ray_cluster_is_joined_only_with_a_redis_that_all_nodes_reach(
    model: Path, tmp_path: Path
) -> None:
    flags = ("--address", "auto", "--keys", "key", "--shared-store", "--model", str(model))
    assert "redis://" in refused(*flags, "--redis-url", "unix:///tmp/x.sock", cwd=tmp_path)


def test_ray_cluster_that_does_not_answer_is_named(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    flags = ("--address", address, "--keys", "key", "--shared-store", "--model", str(model))
    assert address in refused(*flags, cwd=tmp_path)
