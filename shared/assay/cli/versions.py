"""How `assay models` shows versions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import typer
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.errors import ArtifactError
from assay.models.manifest import Manifest
from assay.registry.store import Store
from assay.schemas.refs import ModelRef

_INDENT = 2


@dataclass(frozen=True)
class Row:
    """A version in the list; one whose manifest is damaged has `fault` alone."""

    version: str
    aliases: list[str]
    status: str = "damaged"
    created: str = ""
    parent: str | None = None
    updates: int | None = None
    gate: str = ""
    fault: str | None = None


class _Rule(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    passed: bool
    detail: str = ""
    bound: str = ""
    on_failure: str = "reject"


class _Report(BaseModel):
    """The gate's report, as far as it is shown here."""

    model_config = ConfigDict(extra="ignore")

    passed: bool
    manual_only: bool = False
    shift: str = "unverified"
    rules: list[_Rule] = []

    @property
    def verdict(self) -> str:
        """In a few words."""
        if not self.passed:
            names = [r.name for r in self.rules if not r.passed and r.on_failure == "reject"]
            return f"failed: {', '.join(names)}"
        alone = ", by a person only" if self.manual_only else ""
        return f"passed{alone}, shift {self.shift}"


def rows(store: Store, name: str) -> list[Row]:
    """The versions of a model, oldest first."""
    aliases = store.aliases(name)
    return [
        _row(store, ModelRef(name, version), list(aliases.of(version)))
        for version in store.versions(name)
    ]


def print_rows(rows: Sequence[Row], *, as_json: bool) -> None:
    """A table, or a JSON list."""
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=_INDENT))
        return
    columns = ("version", "alias", "status", "created", "parent", "updates", "gate")
    lines = [
        (
            row.version,
            ", ".join(row.aliases),
            row.status,
            row.created,
            row.parent or "",
            "" if row.updates is None else str(row.updates),
            row.fault or row.gate,
        )
        for row in rows
    ]
    _print_table(columns, lines)


def print_version(manifest: Manifest, aliases: Sequence[str], *, as_json: bool) -> None:
    """What a manifest says, the gate's rules one by one; or the manifest as JSON."""
    if as_json:
        said = {**manifest.model_dump(mode="json"), "aliases": list(aliases)}
        typer.echo(json.dumps(said, indent=_INDENT))
        return
    for name, value in _facts(manifest, aliases):
        typer.echo(f"{name:<12} {value}")
    if manifest.gate is not None:
        _print_gate(manifest.gate)
    for note in manifest.notes:
        typer.echo(f"{'note':<12} {note}")
    for name, figures in (("recipe", manifest.recipe), ("metrics", manifest.metrics)):
        if figures:
            typer.echo(f"{name}:\n{_indented(figures)}")


def _row(store: Store, ref: ModelRef, aliases: list[str]) -> Row:
    try:
        manifest = store.manifest(ref)
    except ArtifactError as error:
        return Row(str(ref), aliases, fault=error.detail)
    return Row(
        version=str(ref),
        aliases=aliases,
        status=manifest.status,
        created=_date(manifest.created),
        parent=manifest.parent,
        updates=manifest.updates,
        gate="" if manifest.gate is None else _verdict(manifest.gate),
    )


def _facts(manifest: Manifest, aliases: Sequence[str]) -> Iterable[tuple[str, object]]:
    facts = {
        "version": manifest.ref,
        "alias": ", ".join(aliases),
        "status": manifest.status,
        "created": _date(manifest.created),
        "parent": manifest.parent,
        "lineage": manifest.lineage_id,
        "updates": manifest.updates,
        "last sample": manifest.last_stream_id,
        "kind": f"{manifest.kind}, {len(manifest.members)} member(s)",
        "input": f"{manifest.input_format}, at most {manifest.max_tokens} tokens",
        "calibrated": f"on {manifest.calibration.pairs} pairs" if manifest.calibration else "no",
        "data": manifest.data_digest,
    }
    return [(name, value) for name, value in facts.items() if value not in (None, "")]


def _print_gate(gate: dict[str, Any]) -> None:
    typer.echo(f"{'gate':<12} {_verdict(gate)}")
    try:
        report = _Report.model_validate(gate)
    except ValidationError:
        typer.echo(_indented(gate))
        return
    lines = [(rule.name, _outcome(rule), rule.bound, rule.detail) for rule in report.rules]
    _print_table(("rule", "outcome", "must be", "found"), lines)


def _outcome(rule: _Rule) -> str:
    if rule.on_failure == "report":
        return "reported"
    if rule.passed:
        return "passed"
    return "by a person" if rule.on_failure == "manual" else "failed"


def _verdict(gate: dict[str, Any]) -> str:
    try:
        return _Report.model_validate(gate).verdict
    except ValidationError:
        return "a report of another release"


def _date(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M")


def _indented(figures: dict[str, Any]) -> str:
    text = json.dumps(figures, indent=_INDENT)
    return "\n".join(" " * _INDENT + line for line in text.splitlines())


def _print_table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "version")
    for line in lines:
        table.add_row(*map(Text, line))
    Console().print(table)
