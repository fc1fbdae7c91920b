"""`assay models`: the versions in the store, and which of them serves."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import Field, SecretStr

from assay.cli.refusals import refusing
from assay.errors import ConflictError, NotFoundError
from assay.registry.settings import StoreSettings

if TYPE_CHECKING:
    from assay.client import Client
    from assay.registry.store import Store
    from assay.schemas.promotions import PromotionReply
    from assay.schemas.refs import ModelRef

_POLL_S = 0.25

app = typer.Typer(no_args_is_help=True)

StoreOption = Annotated[
    str | None,
    typer.Option(help="Folder, file://... or s3://bucket/prefix (ASSAY_STORE; HOME/store)."),
]
HomeOption = Annotated[Path | None, typer.Option(help="Folder of all state (ASSAY_HOME).")]
RedisOption = Annotated[
    str | None, typer.Option(help="Where leases are (ASSAY_REDIS_URL; else HOME/redis.sock).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UrlOption = Annotated[str | None, typer.Option(help="Server (ASSAY_URL).")]
KeyOption = Annotated[str | None, typer.Option(help="Key of scope admin (ASSAY_KEY).")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until it is done or refused.")]
SwapWhenOption = Annotated[
    Literal["quiet", "now"] | None,
    typer.Option(help="Between groups, or at once; without it as the server is set."),
]


class VersionSettings(StoreSettings):
    """Where versions are, and who uses them."""

    redis_url: SecretStr | None = Field(
        default=None, description="None = that of `assay up`, if it runs."
    )

    def leased(self, name: str) -> set[int]:
        """The versions that replicas are to keep; none where no Redis is named or runs.

        Raises:
            DependencyError: the Redis does not answer.
        """
        if self.redis_url is not None:
            return asyncio.run(_in_use(self.redis_url.get_secret_value(), name))
        path = self.home / "redis.sock"
        return asyncio.run(_in_use(f"unix://{path}", name)) if _listens(path) else set()


@app.callback()
def models() -> None:
    """Versions of reward models: list, show, promote, roll back, delete old ones."""


@app.command("list")
def list_versions(
    name: Annotated[str | None, typer.Argument(help="One model; without it all.")] = None,
    store: StoreOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List versions, with aliases and what the gate said."""
    from assay.cli import versions

    with refusing("assay models list"):
        place = _settings(store, home).open_store()
        names = place.names() if name is None else [name]
        rows = [row for each in names for row in versions.rows(place, each)]
        if not rows:
            raise NotFoundError(f"the store {place.url} has no version of {name}")
        versions.print_rows(rows, as_json=json)


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="name@7, or a name for what serves.")],
    store: StoreOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Show one version: where it comes from, and the gate's report rule by rule."""
    from assay.cli import versions

    with refusing("assay models show"):
        place = _settings(store, home).open_store()
        ref = _version(place, model)
        aliases = place.aliases(ref.name).of(ref.version)
        versions.print_version(place.manifest(ref), aliases, as_json=json)


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="The version that is to serve: name@7.")],
    url: UrlOption = None,
    key: KeyOption = None,
    wait: WaitOption = False,
    swap_when: SwapWhenOption = None,
    force: Annotated[bool, typer.Option("--force", help="Even if the gate rejected it.")] = False,
) -> None:
    """Let a version serve, on every replica of a running server."""
    with refusing("assay models promote"), _client(url, key) as client:
        _follow(client, client.promote(model, swap_when=swap_when, force=force), wait=wait)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The model.")],
    url: UrlOption = None,
    key: KeyOption = None,
    wait: WaitOption = False,
    swap_when: SwapWhenOption = None,
) -> None:
    """Let the previous version serve again."""
    with refusing("assay models rollback"), _client(url, key) as client:
        _follow(client, client.rollback(name, swap_when=swap_when), wait=wait)


@app.command()
def gc(
    name: Annotated[str, typer.Argument(help="The model.")],
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest stay.")] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = None,
    home: HomeOption = None,
    redis_url: RedisOption = None,
) -> None:
    """Delete old versions, but none with an alias or a lease, nor the parent of an aliased one."""
    with refusing("assay models gc"):
        settings = _settings(store, home, redis_url)
        place = settings.open_store()
        in_use = settings.leased(name)
        collect = place.collectable if dry_run else place.collect
        gone = collect(name, keep, in_use)
        said = "would delete" if dry_run else "deleted"
        names = ", ".join(f"{name}@{version}" for version in gone)
        typer.echo(f"{said} {names}" if gone else "nothing to delete")


def _settings(
    store: str | None, home: Path | None, redis_url: str | None = None
) -> VersionSettings:
    given = {"store": store, "home": home, "redis_url": redis_url}
    return VersionSettings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _client(url: str | None, key: str | None) -> Client:
    from assay.client import Client

    return Client(url, key=key)


def _version(store: Store, model: str) -> ModelRef:
    from assay.schemas.refs import ModelRef, parse_pin

    name, version = parse_pin(model)
    version = version or store.aliases(name).serving or store.newest(name)
    if version is None:
        raise NotFoundError(f"the store {store.url} has no version of {name}")
    return ModelRef(name, version)


def _follow(client: Client, promotion: PromotionReply, *, wait: bool) -> None:
    """Print each state that a promotion comes to, up to the end if that is waited for."""
    typer.echo(f"{promotion.model}: {promotion.kind} {promotion.id}: {promotion.state}")
    while wait and promotion.state not in ("done", "refused"):
        time.sleep(_POLL_S)
        state, promotion = promotion.state, client.promotion(promotion.id)
        if promotion.state != state:
            typer.echo(f"{promotion.model}: {promotion.state}")
    if promotion.state == "refused":
        raise ConflictError(f"{promotion.model} was refused: {promotion.reason}")


def _listens(path: Path) -> bool:
    """Whether a server is behind a socket; a killed one leaves its socket behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


async def _in_use(redis_url: str, name: str) -> set[int]:
    """Versions under lease, and the one that is being promoted."""
    from assay.registry.promotions import Registry
    from assay.streams.connection import connect

    async with connect(redis_url) as redis:
        registry = Registry(redis, name)
        board = await registry.board()
        moving = {board.active.version} if board and board.active else set()
        return moving | await registry.leases()
