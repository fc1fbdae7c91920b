"""`assay up` with the default model, for tests that only ask it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator

import pytest

from serving import Server, free_port, started


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`assay up` as `make up` runs it; a body may name any model, as verl's does."""
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-"))
        argv = ["assay", "up", "--home", home]
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("ASSAY_COMPAT_ANY_MODEL", "1")
            folder = tmp_path_factory.mktemp("up")
            running = stack.enter_context(started(argv, free_port(), folder))
        running.wait_ready()
        yield running
