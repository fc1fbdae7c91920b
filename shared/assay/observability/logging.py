"""JSON lines on stderr, set up once per process; the code logs through stdlib `logging`."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(level: str, service: str) -> None:
    """Make every logger of this process write one JSON object a line.

    Bound context (`request_id`) and the `extra` fields of a call become fields of the line. Texts
    and secrets are never logged: the code logs ids and sizes.

    Args:
        level: least level that is written.
        service: name of the process, a field of each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                # A name with a leading underscore is a library's own, such as Ray's time stamp.
                lambda _logger, _name, event: {
                    "service": service,
                    **{name: value for name, value in event.items() if name[0] != "_"},
                },
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
