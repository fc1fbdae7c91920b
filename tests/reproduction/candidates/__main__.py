"""`python -m reproduction.candidates`: judge bad candidates, then write the report."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from rich.console import Console

from assay.errors import AssayError
from reproduction.candidates.evidence import Evidence, read_evidence
from reproduction.candidates.subject import (
    ADAPTERS,
    HEADS,
    Subject,
    by_length,
    randomise,
    recalibrated,
)
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.progress import quieten_libraries
from reward_trainer.gate.data import GateData
from reward_trainer.gate.evaluate import evaluate
from reward_trainer.gate.measuring import Measured
from reward_trainer.gate.report import GateReport
from reward_trainer.preferences.writing import replacing

_STEPS, _WALK, _STRIDE = 30, 20, 0.02
_ABOUT = """# Bad candidates

Children of the embedded `assay-minilm` that were spoilt on purpose, and what the gate says of them.
Held out are {pairs:,} argument pairs of {prompts} prompts on topics that it was not trained on,
{groups} prompts with five samples of a policy after RLHF, and as a probe {probe} dialogues. Made by
`python -m reproduction.candidates` in about ten minutes of one core.
"""


class Judged(NamedTuple):
    """A candidate's name, the rule that is meant for it, and the verdict."""

    name: str
    meant: str
    report: GateReport


def main(
    out: Annotated[Path, typer.Option(help="Folder for README.md.")],
    data: Annotated[Path, typer.Option(envvar="ASSAY_DATA", help="Folder of data.")] = Path(
        "../shared/data"
    ),
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
) -> None:
    """Make bad candidates of the embedded model and have the gate judge them."""
    quieten_libraries()
    torch.set_num_threads(threads)
    console, judged = Console(stderr=True, width=None if sys.stderr.isatty() else 160), []
    try:
        evidence = read_evidence(data)
        for candidate in _candidates(evidence):
            judged.append(candidate)
            console.print(f"{candidate.name}: {_rejected_by(candidate.report)}")
        _write(out / "README.md", evidence.data, judged)
    except AssayError as error:
        typer.echo(f"candidates: {error.detail}", err=True)
        raise typer.Exit(2) from None
    typer.echo(out / "README.md")


def _candidates(evidence: Evidence) -> Iterator[Judged]:
    data, subject = evidence.data, Subject(evidence.data)
    parent = subject.measured()

    def judged(name: str, meant: str, candidate: Measured) -> Judged:
        return Judged(name, meant, evaluate(candidate, parent, parent, data))

    yield judged("the parent itself", "", parent)
    with subject.changing(HEADS) as weights:
        randomise(weights)
        yield judged("random head", "accuracy_parent", subject.measured())
    with subject.changing(HEADS) as weights:
        for weight in weights:
            weight.mul_(2.0)
        yield judged("scale doubled", "score_std", subject.measured())
    yield _walk(replace(data, groups=(), probe=()), evidence.arguments)
    subject.train(by_length(evidence.arguments), _STEPS)
    yield judged("trained to prefer length", "length_correlation", subject.measured())
    inverted = Subject(data)
    mixed = [*evidence.arguments[: len(evidence.recent)], *(p.swapped() for p in evidence.recent)]
    inverted.train(mixed, 2 * _STEPS)
    yield judged("inverted on the probe", "probe_parent", inverted.measured())


def _walk(data: GateData, pairs: Sequence[Pair]) -> Judged:
    """Step by step from the anchor to a model that was trained on opposite labels."""
    subject = Subject(data)
    anchor = parent = subject.measured()
    report, steps = evaluate(anchor, anchor, anchor, data), 0
    with subject.changing(ADAPTERS, HEADS) as weights:
        good = [weight.clone() for weight in weights]
        subject.train([pair.swapped() for pair in pairs], _STEPS)
        bad = [weight.clone() for weight in weights]
        while report.passed and steps < _WALK:
            for weight, start, end in zip(weights, good, bad, strict=True):
                weight.copy_(torch.lerp(start, end, (steps + 1) * _STRIDE))
            candidate = recalibrated(subject.measured(), anchor)
            report = evaluate(candidate, parent, anchor, data)
            parent, steps = candidate, steps + 1
    name = f"slightly worse each time: number {steps} of {_WALK}"
    return Judged(name, "accuracy_anchor", report)


def _rejected_by(report: GateReport) -> str:
    return ", ".join(reason.partition(":")[0] for reason in report.reasons) or "none"


def _write(path: Path, data: GateData, judged: list[Judged]) -> None:
    about = _ABOUT.format(
        pairs=len(data.held),
        prompts=len({pair.root or pair.prompt for pair in data.held}),
        groups=len(data.groups),
        probe=len(data.probe),
    )
    lines = [about, "| candidate | meant for it | rejected by |", "| --- | --- | --- |"]
    for one in judged:
        lines.append(f"| {one.name} | {one.meant} | {_rejected_by(one.report)} |")
    for one in judged:
        lines += [f"\n## {one.name}\n", "| rule | passed | what was found |", "| --- | --- | --- |"]
        for rule in one.report.rules:
            lines.append(f"| {rule.name} | {'yes' if rule.passed else '**no**'} | {rule.detail} |")
    with replacing(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    typer.run(main)
