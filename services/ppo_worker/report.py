"""`assay ppo report`: a run as one HTML page, with its curves, its events and texts to read."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from assay.errors import DataError
from assay.schemas.text import Prompt, as_messages
from ppo_worker.metrics import (
    EVALUATIONS,
    EVENTS,
    STEPS,
    Evaluation,
    Event,
    StepRecord,
    read_rows,
)
from ppo_worker.plots import draw
from ppo_worker.watch import RULES

REPORT = "report.html"
_SAMPLES = 8
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2em auto; padding: 0 1em }
img { max-width: 100% } table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #ddd; padding: .4em .6em; text-align: left; vertical-align: top }
td.text { white-space: pre-wrap } .warning { color: #b00020 }
"""


def write_report(run: Path) -> Path:
    """Draw a run, finished or not.

    Args:
        run: folder of the run.

    Returns:
        The page.

    Raises:
        DataError: there is no run, or it has no step yet, or the page cannot be written.
    """
    steps = read_rows(run / STEPS, StepRecord)
    if not steps:
        raise DataError(f"{run} holds no steps of a run: name the folder that `assay ppo` printed")
    evaluations = read_rows(run / EVALUATIONS, Evaluation)
    events = read_rows(run / EVENTS, Event)
    picture = base64.b64encode(draw(steps, evaluations)).decode()
    parts = [
        f"<h1>{_text(run.name)}</h1>",
        _summary(steps, evaluations),
        f'<img alt="curves" src="data:image/png;base64,{picture}">',
        _table_of_events(events),
        _samples(evaluations),
    ]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(run.name)}</title>'
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )
    path = run / REPORT
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _summary(steps: Sequence[StepRecord], evaluations: Sequence[Evaluation]) -> str:
    unscored = sum(one.unscored for one in steps)
    lines = [f"{steps[-1].step} steps; {unscored} completions had no score and were left out."]
    if evaluations:
        last = evaluations[-1]
        gain = "" if last.gain is None else f", {last.gain:+.2f} of its standard deviations"
        lines.append(
            f"On held-out prompts at step {last.step}, by {last.model_version}: score "
            f"{last.score:.3f}, base policy {last.base_score:.3f}{gain}; length "
            f"{last.length / last.base_length:.2f} times the base policy's; KL {last.kl:.2f} nats."
        )
    return "".join(f"<p>{_text(line)}</p>" for line in lines)


def _table_of_events(events: Sequence[Event]) -> str:
    rows = []
    for event in events:
        kind = _text(event.kind)
        shown = f'<td class="warning">{kind}</td>' if event.kind in RULES else f"<td>{kind}</td>"
        fields = ", ".join(f"{name}: {value}" for name, value in (event.model_extra or {}).items())
        rows.append(f"<tr><td>{event.step}</td>{shown}<td>{_text(fields)}</td></tr>")
    return _table("Events", ("step", "event", ""), rows)


def _samples(evaluations: Sequence[Evaluation]) -> str:
    """The first completion of some held-out prompts, before and after."""
    if not evaluations:
        return ""
    first, last = evaluations[0], evaluations[-1]
    rows = []
    texts = zip(first.prompts, first.completions, last.completions, strict=True)
    for prompt, before, after in list(texts)[:_SAMPLES]:
        cells = (_as_text(prompt), before[0], after[0])
        rows.append("".join(f'<td class="text">{_text(cell)}</td>' for cell in cells))
    heads = ("prompt", "base policy", f"after {last.step} steps")
    return _table("Held-out prompts", heads, [f"<tr>{row}</tr>" for row in rows])


def _table(title: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{_text(name)}</th>" for name in heads)
    return f"<h2>{_text(title)}</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _as_text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(
        f"{message['role']}: {message.get('content')}" for message in as_messages(prompt)
    )


def _text(text: str) -> str:
    return html.escape(text)
