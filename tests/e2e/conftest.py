"""`assay up` with the default model, for tests that only ask it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from serving import Server, free_port, started


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`assay up` as `make up` runs it; a body may name any model, as verl's does."""
    with tempfile.TemporaryDirectory(prefix="assay-") as home, pytest.MonkeyPatch.context() as set_:
        set_.setenv("ASSAY_COMPAT_ANY_MODEL", "1")
        argv = ["assay", "up", "--home", home]
        with started(argv, free_port(), tmp_path_factory.mktemp("up")) as running:
            running.wait_ready()
            yield running
