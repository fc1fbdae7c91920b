"""`python -m reward_server`: the server process, from its settings to its last answer."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from assay.errors import ModelLoadError, StartupError

if TYPE_CHECKING:
    from assay.schemas.refs import ModelRef
    from reward_server.settings import ServerSettings

logger = logging.getLogger(__name__)

_REFUSED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Check, start, serve until SIGTERM or Ctrl-C, drain. A second signal ends the draining.

    Returns:
        0 after an orderly end, 2 with one line on stderr for what kept it from starting.
    """
    _interruptible()
    try:
        settings = _read_settings(sys.argv[1:] if argv is None else list(argv))
        from reward_server.preflight import preflight

        _serve(settings, preflight(settings))
    except (StartupError, ModelLoadError) as error:
        sys.stderr.write(f"assay serve: {error.detail}\n")
        return _REFUSED
    except KeyboardInterrupt:
        pass  # asked to end before it had started
    except SystemExit as end:
        if end.code != signal.SIGTERM:  # what Ray's own handler says while Ray is starting
            raise
    return 0


def _read_settings(argv: list[str]) -> ServerSettings:
    from assay.settings import from_flags
    from reward_server.settings import ServerSettings

    return from_flags(ServerSettings, argv, "assay serve")


def _serve(settings: ServerSettings, model: ModelRef) -> None:
    from reward_server.cluster import joined_cluster, local_cluster

    with local_cluster(settings) if settings.address is None else joined_cluster(settings):
        _interruptible()  # Ray has put its own handler in place
        from reward_server import deployment

        try:
            handle = deployment.start(settings)
            _announce(settings, model)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            with contextlib.suppress(KeyboardInterrupt):
                left = deployment.drain(handle, settings.drain_s)
                if left:
                    logger.warning("ended with requests in flight", extra={"requests": left})
        finally:
            deployment.stop()


def _interruptible() -> None:
    """Have SIGTERM do what Ctrl-C does: raise KeyboardInterrupt in the main thread."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _announce(settings: ServerSettings, model: ModelRef) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    redis = "none (baselines, samples and promotions answer 503)"
    if settings.redis_url is not None:
        url = urlsplit(settings.redis_url.get_secret_value())
        redis = url._replace(netloc=url.netloc.rpartition("@")[2], query="").geturl()  # no password
    sys.stdout.write(f"ready: http://{host}:{settings.port}  model {model}  redis {redis}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
