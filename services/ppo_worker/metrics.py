"""What a run measures, and where it stands: JSON lines and TensorBoard in the run's folder."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from assay.errors import DataError
from assay.schemas.text import Prompt

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STEPS, EVALUATIONS, EVENTS = "steps.jsonl", "evaluations.jsonl", "events.jsonl"
_LOG = logging.getLogger(__name__)


class StepRecord(BaseModel):
    """One step: a batch of completions, and what was learned from it.

    Attributes:
        step: from 1 on.
        model_version: the version that gave every reward of the step.
        score: mean score of the reward model.
        reward: mean of what the server gave: `score`, or less the baseline.
        optimised: mean return of a completion: normalised, clipped, less penalties and KL.
        kl: mean over completions of the sum of log pi - log pi_ref, in nats.
        length: mean tokens of a completion, its end token included.
        entropy: mean over tokens, of the next-word distribution, in nats.
        perplexity: exp of the mean negative log-probability of the sampled tokens.
        disagreement: mean population std over members; None for a model that cannot say.
        clip_fraction: share of tokens at which the policy loss was clipped; None = critic alone.
        update_kl: mean log pi_old - log pi_new over tokens of the batch, after the step.
        policy_loss: None while the critic learns alone.
        value_loss: over all updates of the step.
        ptx_loss: None without `ptx_texts`.
        gradient: mean norm of the gradient before clipping.
        unscored: completions that were left out, for they have no score.
        unfinished: share of completions that were cut by the limit of tokens.
        sample_s, score_s, learn_s: seconds.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, protected_namespaces=())

    step: int
    model_version: str
    score: float
    reward: float
    optimised: float
    kl: float
    length: float
    entropy: float
    perplexity: float
    disagreement: float | None
    clip_fraction: float | None
    update_kl: float
    policy_loss: float | None
    value_loss: float
    ptx_loss: float | None
    gradient: float
    unscored: int
    unfinished: float
    sample_s: float
    score_s: float
    learn_s: float


class Evaluation(BaseModel):
    """The policy and the base policy on held-out prompts, scored by one version.

    Attributes:
        step: steps learned; 0 = the base policy itself.
        model_version: the version that scored both.
        score, base_score: mean scores.
        base_std: population std of the base policy's scores over completions.
        length, base_length: mean tokens of a completion.
        kl: mean over completions of the sum of log pi - log pi_ref, in nats.
        unscored: completions of the policy without a score.
        prompts: held-out prompts.
        completions: of the policy, a list a prompt.
        finished: False = that one was cut by the limit of tokens.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, protected_namespaces=())

    step: int
    model_version: str
    score: float
    base_score: float
    base_std: float
    length: float
    base_length: float
    kl: float
    unscored: int
    prompts: list[Prompt]
    completions: list[list[str]]
    finished: list[list[bool]]

    @property
    def gain(self) -> float | None:
        """How much the score is above the base policy's, in its standard deviations."""
        return (self.score - self.base_score) / self.base_std if self.base_std > 0 else None


class Event(BaseModel):
    """Something that happened once: a wait, another version, a warning."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str
    step: int
    at: float


_Row = TypeVar("_Row", StepRecord, Evaluation, Event)


class Journal:
    """Writes a run's files; what was written after the checkpoint is forgotten at a restart.

    Args:
        folder: of the run.
        step: of the checkpoint that the run goes on from.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder, self._step = folder, step
        self.steps = self._kept(STEPS, StepRecord)
        self.evaluations = self._kept(EVALUATIONS, Evaluation)
        self._kept(EVENTS, Event)
        self._board = _board(folder / "tensorboard", step + 1)

    def step(self, record: StepRecord) -> None:
        """One more step."""
        self.steps.append(record)
        self._step = record.step
        self._write(STEPS, record)
        values = record.model_dump(exclude={"step", "model_version"}, exclude_none=True)
        self._draw("step", values, record.step)

    def evaluation(self, evaluation: Evaluation) -> None:
        """One more measurement on held-out prompts."""
        self.evaluations.append(evaluation)
        self._write(EVALUATIONS, evaluation)
        values = evaluation.model_dump(include={"score", "base_score", "length", "kl"})
        self._draw("held_out", values, evaluation.step)

    def warning(self, kind: str, detail: str) -> None:
        """Something that a person should look at."""
        self.event(kind, level=logging.WARNING, detail=detail)

    def event(self, kind: str, level: int = logging.INFO, **fields: Any) -> None:
        """Something that happened."""
        _LOG.log(level, kind, extra=fields)
        event = {"kind": kind, "step": self._step, "at": round(time.time(), 3), **fields}
        self._write(EVENTS, Event.model_validate(event))

    def close(self) -> None:
        """Write what is still to be written."""
        with _writing(self._folder):
            self._board.close()

    def _draw(self, group: str, values: Mapping[str, float], step: int) -> None:
        with _writing(self._folder):
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)

    def _kept(self, name: str, kind: type[_Row]) -> list[_Row]:
        """Rows up to the checkpoint; the file is left with those alone."""
        path = self._folder / name
        rows = [row for row in read_rows(path, kind) if row.step <= self._step]
        if path.exists():
            text = "".join(row.model_dump_json() + "\n" for row in rows)
            temporary = path.with_suffix(".tmp")
            with _writing(temporary):
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(path)
        return rows

    def _write(self, name: str, row: BaseModel) -> None:
        path = self._folder / name
        with _writing(path), path.open("a", encoding="utf-8") as lines:
            lines.write(row.model_dump_json() + "\n")


def read_rows(path: Path, kind: type[_Row]) -> list[_Row]:
    """The rows of a file of a run; none where it is not there.

    A last line that breaks off was being written when the worker was killed: it is left out.

    Raises:
        DataError: it cannot be read, or another line is no such row.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    rows: list[_Row] = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            rows.append(kind.model_validate(json.loads(line)))
        except (ValueError, ValidationError) as error:
            raise DataError(
                f"line {number} of {path} is no {kind.__name__}: delete the line, or the run"
            ) from error
    return rows


def mean(values: Sequence[float]) -> float:
    """Of one value or more."""
    return sum(values) / len(values)


def _board(folder: Path, purge_step: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    with _writing(folder):
        return SummaryWriter(str(folder), purge_step=purge_step)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}; free some disk") from error
