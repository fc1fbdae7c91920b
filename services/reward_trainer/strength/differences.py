"""What an ensemble makes of each pair of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn

from assay.errors import AssayError, DataError, ScoringError
from assay.models.calibration import length_batches
from assay.models.scorer import EncodedInput, Scorer
from reward_trainer.preferences.formats import COLUMNS
from reward_trainer.preferences.roots import as_prompt

Array = NDArray[np.float64]
Inputs = tuple[EncodedInput, EncodedInput]
_CHUNK_PAIRS = 2048
_BARS = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())


@dataclass(frozen=True)
class Measured:
    """Differences of some pairs.

    Attributes:
        model: the version that measured them.
        differences: score(chosen) - score(rejected) of each member, shape [pairs, members].
        truncated: pairs of which the model did not read the whole prompt.
    """

    model: str
    differences: Array
    truncated: int


def check_members(members: int, name: str) -> None:
    """Refuse a model that cannot say how sure it is.

    Raises:
        DataError: it has one member.
    """
    if members < 2:
        raise DataError(
            f"{name} has one member, and how sure it is follows from the spread over members: "
            "name an ensemble, or train one (`assay fit`)"
        )


def measure(scorer: Scorer, table: datasets.Dataset, console: Console) -> Measured:
    """Score both completions of each pair with each member.

    Args:
        scorer: an ensemble.
        table: preference pairs.
        console: gets a progress bar.

    Raises:
        DataError: the model has one member, or cannot take a row; the row is named.
        ScoringError: a score is not finite; the row is named.
    """
    check_members(scorer.card.assay.members, scorer.card.id)
    scores: dict[bytes, Array] = {}
    parts, truncated = [], 0
    with Progress(*_BARS, console=console) as progress:
        task = progress.add_task(f"score with {scorer.card.id}", total=len(table))
        for first in range(0, len(table), _CHUNK_PAIRS):
            rows = range(first, min(first + _CHUNK_PAIRS, len(table)))
            inputs = _encode(scorer, table.select(rows), first)
            _score(scorer, inputs, scores, progress, task)
            parts.append(np.array([scores[a.digest] - scores[b.digest] for a, b in inputs]))
            truncated += sum(chosen.truncated or rejected.truncated for chosen, rejected in inputs)
    differences = np.concatenate(parts)
    _check_finite(differences, scorer.card.id)
    return Measured(scorer.card.id, differences, truncated)


def _encode(scorer: Scorer, table: datasets.Dataset, first: int) -> list[Inputs]:
    inputs = []
    for row, texts in enumerate(zip(*(table[name] for name in COLUMNS), strict=True), first + 1):
        prompt, chosen, rejected = map(as_prompt, texts)
        try:
            inputs.append((scorer.encode(prompt, chosen), scorer.encode(prompt, rejected)))
        except AssayError as error:
            raise DataError(f"row {row}: {error.detail}") from error
    return inputs


def _score(
    scorer: Scorer,
    inputs: Sequence[Inputs],
    scores: dict[bytes, Array],
    progress: Progress,
    task: TaskID,
) -> None:
    """Add the scores of texts that have none yet, in batches of like length."""
    texts = {side.digest: side for pair in inputs for side in pair if side.digest not in scores}
    fresh = list(texts.values())
    for batch in length_batches(fresh):
        values = scorer.score([fresh[index] for index in batch])
        scores |= zip((fresh[index].digest for index in batch), values, strict=True)
        progress.advance(task, len(inputs) * len(batch) / len(fresh))
    if not fresh:
        progress.advance(task, len(inputs))


def _check_finite(differences: Array, model: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(differences).all(axis=1))
    if len(wrong):
        raise ScoringError(f"row {wrong[0] + 1}: a score of {model} is not finite")


def standardise(differences: Array) -> Array:
    """Differences of members with scales of their own, each over its root mean square.

        d_im / sqrt((1/n) sum_i d_im^2)

    Zero stays zero, so no vote changes sides.

    Args:
        differences: shape [pairs, members].

    Raises:
        DataError: a member sees no difference in any pair.
    """
    scales = np.sqrt((differences**2).mean(axis=0))
    if not scales.all():
        member = int(np.flatnonzero(scales == 0)[0])
        raise DataError(f"member {member} scores both completions of every pair alike")
    return np.asarray(differences / scales)
