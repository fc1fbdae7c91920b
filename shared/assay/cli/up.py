"""`assay up` and `assay serve`: the services as children of one command."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from assay.cli.processes import Child, Interrupts, wait
from assay.cli.redis_process import EmbeddedRedis, claim_home
from assay.errors import StartupError


class UpSettings(BaseSettings):
    """What `assay up` itself needs; everything else belongs to the server."""

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_", env_file=".env", extra="ignore", frozen=True
    )

    home: Path = Field(
        default=Path("~/.assay"), description="Folder of all state: Redis files, logs, models."
    )
    redis_url: str | None = Field(
        default=None, description="A running Redis; None = run the embedded one."
    )


def up(server_flags: Sequence[str], home: Path | None, redis_url: str | None) -> int:
    """Run Redis, unless one is named, and the server, until interrupted; returns the exit code.

    Raises:
        StartupError: why they cannot start.
    """
    given = {"home": home, "redis_url": redis_url}
    settings = UpSettings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    folder = settings.home.expanduser().absolute()
    interrupts = Interrupts()
    with claim_home(folder) as lock:
        flags = ["--home", str(folder), *server_flags]
        if settings.redis_url is not None:
            return _run_server([*flags, "--redis-url", settings.redis_url], interrupts)
        redis = EmbeddedRedis(folder, lock)
        try:
            redis.wait_ready()
            return _run_server([*flags, "--redis-url", redis.url], interrupts, redis)
        finally:
            redis.end()


def serve(server_flags: Sequence[str]) -> int:
    """Run the server alone until interrupted; returns its exit code."""
    return _run_server(server_flags, Interrupts())


def _run_server(
    flags: Sequence[str], interrupts: Interrupts, redis: EmbeddedRedis | None = None
) -> int:
    with _server(flags) as server:
        for _ in wait(server, interrupts):
            if redis is not None:
                redis.keep_alive(_report)
        code = server.exit_code()
    if code is not None and code >= 0:
        return code
    if interrupts.count:
        return 0  # it had not yet put its own handlers in place, or was made to end
    raise StartupError(f"the server was ended by signal {-(code or 0)}")


@contextlib.contextmanager
def _server(flags: Sequence[str]) -> Iterator[Child]:
    server = Child([sys.executable, "-m", "reward_server", *flags])
    try:
        yield server
    finally:
        server.kill()


def _report(line: str) -> None:
    typer.echo(f"assay up: {line}", err=True)
