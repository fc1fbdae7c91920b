"""`python -m ppo_worker`: the commands `assay ppo` and `assay ppo report`."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import AssayError
from assay.settings import from_flags
from ppo_worker.settings import PPOSettings

if TYPE_CHECKING:
    from rich.console import Console

    from ppo_worker.metrics import Evaluation

_REFUSED, _STOPPED = 2, 130
_REPORT = "usage: assay ppo report RUN\n\nDraw what a run has written, into RUN/report.html.\n"


def main(argv: Sequence[str]) -> int:
    """Train, or report.

    Returns:
        0 after the end, 2 with one line on stderr for what keeps it from training or has ended it,
        130 if it was told to stop.
    """
    try:
        return _report(argv[1:]) if argv[:1] == ["report"] else _train(read_settings(argv))
    except AssayError as error:
        sys.stderr.write(f"assay ppo: {error.detail}\n")
        return _REFUSED
    except KeyboardInterrupt:
        sys.stderr.write("assay ppo: stopped; the same command goes on from the last checkpoint\n")
        return _STOPPED


def read_settings(argv: Sequence[str]) -> PPOSettings:
    """Settings from flags and environment.

    Raises:
        StartupError: one is wrong; no value is repeated.
    """
    return from_flags(PPOSettings, argv, "assay ppo")


def _train(settings: PPOSettings) -> int:
    from ppo_worker.run import train

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = _console(settings.log_level)
    last = train(settings, console)
    sys.stdout.write(f"{settings.folder}\n")
    sys.stderr.write(f"{_summary(last)}; `assay ppo report {settings.folder}` draws it\n")
    return 0


def _summary(last: Evaluation) -> str:
    gain = "" if last.gain is None else f" ({last.gain:+.2f} of its standard deviations)"
    return (
        f"held-out score by {last.model_version}: {last.score:.3f}, base policy "
        f"{last.base_score:.3f}{gain}; length {last.length / last.base_length:.2f} times the base "
        f"policy's; KL {last.kl:.2f} nats"
    )


def _console(log_level: str) -> Console | None:
    """Where a person watches: a console for a bar, with log lines above it; else JSON lines."""
    from rich.console import Console
    from rich.logging import RichHandler
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    console = Console(stderr=True)
    if not console.is_terminal:
        from assay.observability.logging import configure_logging

        configure_logging(log_level, "ppo_worker")
    else:
        handler = RichHandler(console=console, show_path=False, markup=False)
        handler.setFormatter(_Fields("%(message)s"))
        logging.basicConfig(level=log_level, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return console if console.is_terminal else None


class _Fields(logging.Formatter):
    """Log lines with the fields that an event carries."""

    _PLAIN = frozenset(vars(logging.makeLogRecord({})))

    def format(self, record: logging.LogRecord) -> str:
        fields = {k: v for k, v in vars(record).items() if k not in self._PLAIN and k != "message"}
        return " ".join([super().format(record), *(f"{k}={v}" for k, v in fields.items())])


def _report(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        asked = list(arguments) in (["--help"], ["-h"])
        (sys.stdout if asked else sys.stderr).write(_REPORT)
        return 0 if asked else _REFUSED
    from ppo_worker.report import write_report

    sys.stdout.write(f"{write_report(Path(arguments[0]).expanduser())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
