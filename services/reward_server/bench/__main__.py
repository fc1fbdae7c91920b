"""`assay bench`: throughput and latency of the server against its own engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

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


if __name__ == "__main__":
    app(prog_name="assay bench")
