"""`assay demo`: the whole loop in view, with pairs and samples made by construction."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from assay.client import Client
from assay.errors import AssayError, DataError, UnavailableError
from assay.schemas.refs import parse_pin
from reward_trainer.online.demo_text import pairs, samples
from reward_trainer.online.settings import TrainerSettings

_PAIRS = 14_000  # of which enough are held out for a promotion without a person
_FRESH_S = 60.0
_POLL_S = 1.0
_GROUPS, _UPDATES = 8, 20  # groups of an update, updates of a version
_AHEAD, _HELD = 3 * _GROUPS, 1.25  # what is posted before it is used, and held-out groups beside it
_STALE_S = 900.0
_FOLDER, _FILE = "demo", "preferences.jsonl"


class DemoSettings(BaseSettings):
    """Where the server keeps its state; where it listens, the client reads itself."""

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    home: Path = Field(default=Path("~/.assay"), description="Folder for state.")


def demo_pairs(home: Path) -> Path | None:
    """The pairs of a demo that runs; None if none does."""
    path = home / _FOLDER / _FILE
    try:
        fresh = time.time() - path.stat().st_mtime < _FRESH_S
    except OSError:
        return None
    return path if fresh else None


def as_demo(settings: TrainerSettings) -> TrainerSettings:
    """The settings for a demo: small updates, an early version, and a state of its own."""
    return settings.model_copy(
        update={
            "preferences": str(settings.home / _FOLDER / _FILE),
            "trainer_folder": settings.home / _FOLDER / "trainer",
            "pairs_per_update": _GROUPS,
            "groups_per_update": _GROUPS,
            "publish_updates": _UPDATES,
            "checkpoint_updates": 1,
        }
    )


def command(
    home: Annotated[Path | None, typer.Option(help="That of `assay up` (~/.assay).")] = None,
    url: Annotated[str | None, typer.Option(help="Server (ASSAY_URL).")] = None,
    key: Annotated[str | None, typer.Option(help="Key (ASSAY_KEY).")] = None,
) -> None:
    """Show the trainer at work: run it beside `assay up --promote auto`, in another terminal.

    It writes pairs of answers and their corruptions, posts samples of a policy that gets worse, and
    prints what the trainer makes of them until a version is served, or waits for you to promote it.
    """
    settings = DemoSettings() if home is None else DemoSettings(home=home)
    folder = settings.home.expanduser().absolute()
    try:
        with Client(url, key=key) as client:
            serving = _serving(client)
            with _pairs_written(folder) as path:
                _run(client, serving, folder, path)
    except AssayError as error:
        typer.echo(f"assay demo: {error.detail}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("assay demo: stopped; the trainer leaves the demo's pairs alone from here on")


@contextmanager
def _pairs_written(home: Path) -> Iterator[Path]:
    """The pairs, for as long as the demo runs: the trainer must not go on with them."""
    path = home / _FOLDER / _FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.write_text("".join(json.dumps(pair) + "\n" for pair in pairs(_PAIRS)), "utf-8")
        draft.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}; choose --home") from error
    typer.echo(f"{_PAIRS:,} pairs of an answer and its corruption: {path}")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _run(client: Client, serving: str, home: Path, path: Path) -> None:
    typer.echo(f"serving {serving}; samples go to it, and the trainer reads them ...")
    told = _Told(home / _FOLDER / "trainer" / parse_pin(serving).name, client)
    posted = 0
    heard = time.monotonic()
    while not told.done:
        os.utime(path)
        while posted < _HELD * told.groups_used + _AHEAD:
            _post(client, posted)
            posted += 1
        if told.look():
            heard = time.monotonic()
        if time.monotonic() - heard > _STALE_S:
            raise DataError(
                "the trainer says nothing: is it beside this server (`assay up`), with the same "
                "--home and without ASSAY_PREFERENCES of its own?"
            )
        time.sleep(_POLL_S)


def _serving(client: Client) -> str:
    return client.model(parse_pin(client.models().data[0].id).name).id


def _post(client: Client, number: int) -> None:
    prompt, completions = samples(number)
    item = {"prompt": prompt, "completions": completions, "policy": "demo", "step": number}
    while True:
        try:
            client.post_samples([item], idempotency_key=f"demo-{os.getpid()}-{number}")
        except UnavailableError:  # the stream is full: the trainer is slower than we are
            time.sleep(_POLL_S)
        else:
            return


class _Line(NamedTuple):
    kind: str
    fields: dict[str, Any]


class _Told:
    """Prints what the trainer writes into its folder from now on."""

    def __init__(self, folder: Path, client: Client) -> None:
        self._files = [folder / "events.jsonl", folder / "updates.jsonl"]
        self._read = [path.stat().st_size if path.exists() else 0 for path in self._files]
        self._client = client
        self.groups_used = 0
        self.done = False
        self._candidate: str | None = None

    def look(self) -> bool:
        """Print what is new; returns whether there was anything."""
        lines = [line for index in range(len(self._files)) for line in self._new(index)]
        for line in lines:
            self._print(line)
        return bool(lines)

    def _new(self, index: int) -> list[_Line]:
        path = self._files[index]
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._read[index])
            whole = file.read().rpartition(b"\n")[0]
        self._read[index] += len(whole) + bool(whole)
        rows = [json.loads(row) for row in whole.splitlines()]
        return [_Line(row.pop("kind", "update"), row) for row in rows]

    def _print(self, line: _Line) -> None:
        fields = line.fields
        if line.kind == "update":
            self.groups_used += _GROUPS
            typer.echo(
                f"  update {fields['update']}: loss {fields['loss']:.3f}, separation "
                f"{fields['separation']:.3f}, {fields['seconds']:.1f} s"
            )
            return
        shown = ", ".join(f"{k} {v}" for k, v in fields.items() if k != "at" and v not in ([], ""))
        typer.echo(f"{line.kind}: {shown}")
        if line.kind == "candidate":
            self._after_candidate(fields)
        elif line.kind == "promoted":
            self.done = True
            serving = self._client.model(parse_pin(fields["version"]).name).id
            typer.echo(
                f"{serving} is served. `assay models list` shows the versions, `assay models show "
                f"{serving}` what the gate saw, `assay models rollback {parse_pin(serving).name}` "
                "goes back."
            )
        elif line.kind in ("paused", "refused"):
            self.done = True

    def _after_candidate(self, fields: dict[str, Any]) -> None:
        if fields.get("promote") == "auto":
            typer.echo("it passed the gate; the servers load it and switch between two groups ...")
            return
        self.done = True
        typer.echo(
            f"it passed the gate and waits for you: `assay models promote {fields['version']}` "
            "(`assay up --promote auto` does that by itself)"
        )
