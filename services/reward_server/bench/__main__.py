"""`assay bench`: throughput and latency of the server against its own engine."""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _ending_cleanly() -> None:
    """Measure a server: each command starts its own, and ends it however it is ended itself."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class Fault(StrEnum):
    """What happens to the replicas."""

    NONE = "none"
    KILL = "kill"
    JOIN = "join"


class When(StrEnum):
    """When replicas switch."""

    QUIET = "quiet"
    NOW = "now"


Model = Annotated[str, typer.Option(help="Reward model to serve.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds; each measures every contender once.")]


@app.command()
def serve(
    data: Annotated[Path, typer.Option(help="Preference pairs, .jsonl or .jsonl.gz.")],
    model: Model = "assay-minilm",
    texts: Annotated[int, typer.Option(min=64, help="Texts of one round.")] = 256,
    connections: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = 64,
    rounds: Rounds = 3,
) -> None:
    """Texts per second: the server, its engine alone, and batches of 32 in arrival order."""
    from reward_server.bench.serve import run

    run(data, model, texts, connections, rounds)


@app.command()
def latency(
    model: Model = "assay-minilm",
    requests: Annotated[int, typer.Option(min=10, help="Requests of one round.")] = 60,
    rounds: Rounds = 3,
) -> None:
    """Latency that HTTP and Ray Serve add to the forward pass: one short completion, idle."""
    from reward_server.bench.latency import run

    run(model, requests, rounds)


@app.command()
def swap(
    model: Model = "assay-minilm",
    whole: Annotated[bool, typer.Option(help="A whole model on its backbone.")] = False,
    replicas: Annotated[int, typer.Option(min=1)] = 2,
    swaps: Annotated[int, typer.Option(min=1, help="Promotions of new versions.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="Length of the part without swaps.")] = 60,
    fault: Annotated[Fault, typer.Option(help="In the prepare of the middle swap.")] = Fault.NONE,
    swap_when: Annotated[When, typer.Option(help="Between groups, or at once.")] = When.QUIET,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Load at 60 % of capacity while versions are swapped: failures, split groups, latency."""
    from reward_server.bench.swap import Plan, run

    plan = Plan(model, whole, replicas, swaps, seconds, fault.value, swap_when.value)
    run(plan, out)


if __name__ == "__main__":
    app(prog_name="assay bench")
