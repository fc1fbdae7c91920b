"""`assay up` and `assay serve`: the services as children of one command."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import httpx
import typer
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from assay.cli.processes import Child, Interrupts, wait
from assay.cli.redis_process import EmbeddedRedis, claim_home
from assay.cli.trainer_process import TrainerProcess
from assay.errors import StartupError


class UpSettings(BaseSettings):
    """What `assay up` itself needs; everything else belongs to the server and the trainer."""

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
    host: str = Field(default="127.0.0.1", description="Where the server listens.")
    port: str = Field(default="8000", description="Its port; the server checks it.")

    @property
    def probe_url(self) -> str:
        """Where the server says whether it is ready."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/readyz"


UpdateRule = Literal["vanilla", "literal", "shared_moments", "joint"]
Promote = Literal["manual", "auto"]
_READY_TIMEOUT_S = 0.5

# The server knows its own flags: they are handed on as they are, `serve --help` included.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
PASS_ON_ALL = {**PASS_ON, "help_option_names": []}


class _Commands(NamedTuple):
    """The flags of the services: of both, of the server, of the trainer."""

    shared: list[str]
    server: list[str]
    trainer: list[str]


def up(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="Folder of all state (~/.assay).")] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="A running Redis, in place of the embedded one.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (8000).")] = None,
    model: Annotated[str | None, typer.Option(help="Name, folder or hub id of the model.")] = None,
    store: Annotated[str | None, typer.Option(help="Folder or URL of saved versions.")] = None,
    preferences: Annotated[
        str | None, typer.Option(help="Pairs for the trainer: file, folder or hub id.")
    ] = None,
    update_rule: Annotated[
        UpdateRule | None, typer.Option(help="How samples change the model.")
    ] = None,
    promote: Annotated[
        Promote | None, typer.Option(help="auto: versions that pass the gate are served.")
    ] = None,
) -> None:
    """Run Redis, the reward server and the trainer until Ctrl-C.

    Takes every flag of `assay serve` as well; the trainer's others are `ASSAY_*` variables.
    """
    own = {"home": home, "redis_url": redis_url, "host": host, "port": port and str(port)}
    settings = UpSettings(**_given(own))
    # Only what came as a flag goes on as one: a password in the environment is not for `ps`.
    shared = {"redis_url": redis_url, "model": model, "store": store}
    server = [*context.args, *_flags({"host": host, "port": port})]
    trainer = _flags({"preferences": preferences, "update_rule": update_rule, "promote": promote})
    commands = _Commands(_flags(shared), server, trainer)
    raise typer.Exit(_refusing("up", lambda: _run_all(settings, commands)))


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


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _flags(options: dict[str, Any]) -> list[str]:
    return [
        part
        for name, value in _given(options).items()
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]


def _run_all(settings: UpSettings, commands: _Commands) -> int:
    folder = settings.home.expanduser().absolute()
    shared = ["--home", str(folder), *commands.shared]
    interrupts = Interrupts()
    with claim_home(folder) as lock:
        if settings.redis_url is not None:
            return _run_services(settings, commands._replace(shared=shared), interrupts)
        redis = EmbeddedRedis(folder, lock)
        try:
            redis.wait_ready()
            shared += ["--redis-url", redis.url]
            return _run_services(settings, commands._replace(shared=shared), interrupts, redis)
        finally:
            redis.end()


def _run_services(
    settings: UpSettings,
    commands: _Commands,
    interrupts: Interrupts,
    redis: EmbeddedRedis | None = None,
) -> int:
    trainer = TrainerProcess(
        [*commands.shared, *commands.trainer], lambda: _is_ready(settings.probe_url)
    )

    def tend() -> None:
        if redis is not None:
            redis.keep_alive(_report)
        if not interrupts.count:
            trainer.keep_alive(_report)

    try:
        return _run_server([*commands.shared, *commands.server], interrupts, tend)
    finally:
        trainer.end()


def _run_server(
    flags: Sequence[str], interrupts: Interrupts, tend: Callable[[], None] = lambda: None
) -> int:
    with _server(flags) as server:
        for _ in wait(server, interrupts):
            tend()
        code = server.exit_code()
    if code is not None and code >= 0:
        return code
    if interrupts.count:
        return 0  # it had not yet put its own handlers in place, or was made to end
    _report(f"the server was ended by signal {-(code or 0)}")
    return 1


def _is_ready(url: str) -> bool:
    try:
        return (
            httpx.get(url, timeout=_READY_TIMEOUT_S, trust_env=False).status_code == httpx.codes.OK
        )
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def _server(flags: Sequence[str]) -> Iterator[Child]:
    server = Child([sys.executable, "-m", "reward_server", *flags])
    try:
        yield server
    finally:
        server.kill()


def _report(line: str) -> None:
    typer.echo(f"assay: {line}", err=True)
