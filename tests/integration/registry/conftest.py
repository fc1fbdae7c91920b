"""A store in a folder, and one in a bucket of a real S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.registry.store import Store
from s3_server import S3Server
from stores import MakeStore


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket; the environment leads to its server."""
    name = f"assay-{uuid.uuid4().hex[:12]}"
    s3_server.create_bucket(name)
    for variable, value in s3_server.environment.items():
        monkeypatch.setenv(variable, value)
    return f"s3://{name}"


@pytest.fixture(params=["folder", "bucket"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Makes stores, each as another process would, of one place."""
    if request.param == "folder":
        return lambda: Store(str(tmp_path / "store"))
    url = f"{request.getfixturevalue('bucket')}/rewards"
    return lambda: Store(url, cache=tmp_path / "cache")


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    return make_store()
