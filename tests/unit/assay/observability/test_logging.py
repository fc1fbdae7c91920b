from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from assay.observability.logging import configure_logging


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def test_a_line_is_json_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "reward_server")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        logging.getLogger("x").warning("queue full", extra={"texts": 3, "_stamp": 7})
        logging.getLogger("x").debug("not written")
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert record.pop("timestamp")
    assert record == {
        "service": "reward_server",
        "event": "queue full",
        "level": "warning",
        "logger": "x",
        "request_id": "r-1",
        "texts": 3,
    }


def test_an_exception_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "reward_server")
    try:
        raise RuntimeError("no memory")
    except RuntimeError:
        logging.getLogger("x").exception("forward pass failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "no memory" in json.loads(line)["exception"]
