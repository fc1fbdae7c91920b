"""What stands in docker-compose.yml and deploy/, read as those who use it read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KEYS = {"ASSAY_KEYS": "secret", "ASSAY_KEY": "secret"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The compose file with these variables in place of `${NAME}`, `${NAME:-default}`.

    Raises:
        KeyError: one that has to be set is missing, or empty.
    """

    def value(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        if variables.get(name):
            return variables[name]
        if kind == "-":
            return text
        raise KeyError(f"{name}: {text}")

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(item) for key, item in node.items()}
        if isinstance(node, list):
            return [filled(item) for item in node]
        return _VARIABLE.sub(value, node) if isinstance(node, str) else node

    loaded: dict[str, Any] = filled(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
    return loaded


@dataclass
class Stage:
    """One stage of the Dockerfile, with what it has from the stage below."""

    runs: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    copies_after_runs: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    user: str = "root"


def dockerfile() -> dict[str, Stage]:
    """The stages by name."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    current = Stage()
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        match word:
            case "FROM":
                below, _, name = rest.partition(" AS ")
                base = stages.get(below, Stage())
                current = Stage(list(base.runs), dict(base.environment), list(base.copies))
                stages[name] = current
            case "RUN":
                current.runs += [part.strip() for part in rest.split("&&")]
                current.copies_after_runs = []
            case "ARG":
                current.arguments.append(rest)
            case "ENV":
                current.environment |= dict(part.split("=", 1) for part in rest.split())
            case "COPY":
                current.copies += rest.split()[:-1]
                current.copies_after_runs += rest.split()[:-1]
            case "CMD":
                current.command = json.loads(rest)
            case "USER":
                current.user = rest
    return stages


def manifests() -> list[dict[str, Any]]:
    """Every object of deploy/k8s."""
    files = sorted((DEPLOY / "k8s").glob("*.yaml"))
    return [item for file in files for item in yaml.safe_load_all(file.read_text())]


def alerts() -> list[dict[str, Any]]:
    """Every alert of Prometheus."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard of Grafana."""
    loaded: dict[str, Any] = json.loads(
        (DEPLOY / "grafana" / "dashboards" / "assay.json").read_text()
    )
    return loaded


def queries() -> list[str]:
    """Every PromQL expression of alerts and dashboard."""
    board = dashboard()
    found = [rule["expr"] for rule in alerts()]
    found += [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    found += [note["expr"] for note in board["annotations"]["list"]]
    return [query.replace("$__rate_interval", "1m") for query in found]


def selected(query: str) -> set[str]:
    """The metrics that an expression reads.

    Raises:
        ValueError: it is no PromQL.
    """
    return {selector.name for selector in _selectors(promql_parser.parse(query))}


def _selectors(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    children = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    for child in [*children, *getattr(node, "args", ())]:
        if child is not None:
            yield from _selectors(child)
