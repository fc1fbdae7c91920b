"""`assay up` and `assay serve`: the services as children of one command."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from assay.cli.processes import Child, Interrupts, wait
from assay.cli.redis_process import EmbeddedRedis, claim_home
from assay.errors import StartupError


class UpSettings(BaseSettings):
    """What `assay up` itself needs; everything else belongs to the server."""

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    home: Path = Field(
        default=Path("~/.assay"), description="Folder of all state: Redis files, logs, models."
    )
    redis_url: str | None = Field(
        default=None, description="A running Redis; None = run the embedded one."
    )


# The server knows its own flags: they are handed on as they are, `serve --help` included.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
PASS_ON_ALL = {**PASS_ON, "help_option_names": []}


def up(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="Folder of all state (~/.assay).")] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="A running Redis, in place of the embedded one.")
    ] = None,
) -> None:
    """Run Redis and the reward server until Ctrl-C. Takes every flag of `assay serve` as well."""
    given = {"home": home, "redis_url": redis_url}
    settings = UpSettings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    # Only what came as a flag goes on as one: a password in the environment is not for `ps`.
    flags = [*context.args, *(["--redis-url", redis_url] if redis_url is not None else [])]
    raise typer.Exit(_refusing("up", lambda: _run_all(settings, flags)))


def serve(context: typer.Context) -> None:
    """Run the reward server alone until Ctrl-C; `assay serve --help` lists its flags."""
    raise typer.Exit(_refusing("serve", lambda: _run_server(context.args, Interrupts())))


def _refusing(command: str, run: Callable[[], int]) -> int:
    """Run, with one line and exit code 2 for what keeps it from starting."""
    try:
        return run()
    except StartupError as error:
        typer.echo(f"assay {command}: {error.detail}", err=True)
        return 2


def _run_all(settings: UpSettings, flags: Sequence[str]) -> int:
    folder = settings.home.expanduser().absolute()
    flags = ["--home", str(folder), *flags]
    interrupts = Interrupts()
    with claim_home(folder) as lock:
        if settings.redis_url is not None:
            return _run_server(flags, interrupts)
        redis = EmbeddedRedis(folder, lock)
        try:
            redis.wait_ready()
            return _run_server([*flags, "--redis-url", redis.url], interrupts, redis)
        finally:
            redis.end()


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
    _report(f"the server was ended by signal {-(code or 0)}")
    return 1


@contextlib.contextmanager
def _server(flags: Sequence[str]) -> Iterator[Child]:
    server = Child([sys.executable, "-m", "reward_server", *flags])
    try:
        yield server
    finally:
        server.kill()


def _report(line: str) -> None:
    typer.echo(f"assay: {line}", err=True)
