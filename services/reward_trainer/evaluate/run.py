"""`assay evaluate`: from data and models to a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import httpx
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from assay.errors import InvalidInputError
from reward_trainer.evaluate.accuracy import Comparison, accuracy_by_subset, compare_by_subset
from reward_trainer.evaluate.agreement import choices, measure_raters
from reward_trainer.evaluate.calibration import folded_calibration, preference
from reward_trainer.evaluate.examples import Examples, read_examples
from reward_trainer.evaluate.layout import Layout
from reward_trainer.evaluate.length import score_by_length
from reward_trainer.evaluate.report import (
    Data,
    ModelReport,
    PairResults,
    Raters,
    Report,
    RewardBench2Results,
    RmBenchResults,
)
from reward_trainer.evaluate.reward_bench import is_reward_bench, reward_bench
from reward_trainer.evaluate.reward_bench_2 import credits, reward_bench_2
from reward_trainer.evaluate.rm_bench import rm_bench, wins_of_styles
from reward_trainer.evaluate.scoring import Scores, opened
from reward_trainer.evaluate.statistics import Array, right
from reward_trainer.evaluate.ties import Scored


class EvaluateSettings(BaseModel):
    """One run of `assay evaluate`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = Field(description="File, folder or hub id.")
    split: str | None = None
    model: str | None = Field(
        default=None, description="Folder, name or hub id; with `url` the version that must answer."
    )
    url: str | None = Field(default=None, description="A running server.")
    key: SecretStr | None = Field(default=None, description="The servers' key.")
    against: str | None = Field(default=None, description="Second model: as `model`, or a URL.")
    subset: str | None = Field(default=None, description="Column to break results down by.")
    group: str = Field(default="root", description="What intervals resample.")
    labels: tuple[str, ...] = Field(default=(), description="Columns to compare as raters.")
    limit: int | None = Field(default=None, ge=1, description="At most so many rows, at random.")
    skip_unusable: bool = Field(default=False, description="Leave out rows that are no pair.")
    device: str = Field(default="auto", description="`auto` = cuda if there is one, else cpu.")


def evaluate(settings: EvaluateSettings, console: Console | None = None) -> Report:
    """Score the data with each model and measure it.

    Raises:
        InvalidInputError: the settings ask for nothing, or for what the data does not have.
        DataError: the data cannot be used.
        ModelLoadError: a model cannot be loaded.
        ScoringError: a score is missing or not finite.
        AssayError: a server fails.
    """
    _check(settings)
    examples = read_examples(
        settings.data,
        split=settings.split,
        subset=settings.subset,
        group=settings.group,
        labels=settings.labels,
        limit=settings.limit,
        skip_unusable=settings.skip_unusable,
    )
    layout = Layout.of(examples.rows)
    scores = _score(settings, layout, console or Console(stderr=True))
    return Report(
        data=_data(settings, examples),
        models=[_model(name, each, examples, layout) for name, each in scores.items()],
        comparison=_compare(list(scores.values()), examples, layout),
        raters=_rate(scores, examples, layout) if examples.labels else None,
    )


def _check(settings: EvaluateSettings) -> None:
    scored = settings.model is not None or settings.url is not None
    if settings.against is not None and not scored:
        raise InvalidInputError("--against needs a first model: --model or --url")
    if not scored and len(settings.labels) < 2:
        raise InvalidInputError(
            "nothing to evaluate: name a model (--model), a server (--url), or two label columns "
            "(--labels A --labels B)"
        )
    if len(set(settings.labels)) < len(settings.labels):
        raise InvalidInputError("--labels names a column twice")


def _score(settings: EvaluateSettings, layout: Layout, console: Console) -> dict[str, Scores]:
    """The scores of each model, by a name that no other has."""
    key = settings.key.get_secret_value() if settings.key else None
    asked = [(settings.model, settings.url)] if settings.model or settings.url else []
    if settings.against is not None:
        remote = settings.against.startswith(("http://", "https://"))
        asked.append((None, settings.against) if remote else (settings.against, None))
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    found: list[Scores] = []
    with ExitStack() as stack:
        scorers = [
            stack.enter_context(opened(model, url=url, key=key, device=settings.device))
            for model, url in asked
        ]
        for score in scorers:
            with Progress(*columns, console=console) as progress:
                found.append(score(layout.texts, progress))
    places = [httpx.URL(url).netloc.decode() if url else str(model) for model, url in asked]
    return dict(zip(_names([scores.model for scores in found], places), found, strict=True))


def _names(models: Sequence[str], places: Sequence[str]) -> list[str]:
    """Versions, with their places if they are the same, numbered if those are the same too."""
    if len(set(models)) == len(models):
        return list(models)
    if len(set(places)) == len(places):
        return [f"{model} ({place})" for model, place in zip(models, places, strict=True)]
    return [f"{model} ({number})" for number, model in enumerate(models, start=1)]


def _data(settings: EvaluateSettings, examples: Examples) -> Data:
    return Data(
        location=settings.data,
        split=settings.split,
        kind=examples.kind,
        rows=len(examples.rows),
        roots=len(set(examples.roots)),
        group=settings.group,
        digest=examples.digest,
    )


def _model(name: str, scores: Scores, examples: Examples, layout: Layout) -> ModelReport:
    measure = {"pairs": _pairs, "rm-bench": _rm_bench, "reward-bench-2": _reward_bench_2}
    return ModelReport(
        name=name,
        members=scores.values.shape[1],
        max_tokens=scores.max_tokens,
        truncated=scores.truncated,
        texts=len(layout.texts),
        results=measure[examples.kind](scores, examples, layout),
    )


def _pairs(scores: Scores, examples: Examples, layout: Layout) -> PairResults:
    subsets, roots = examples.subsets, examples.roots
    members = layout.differences(scores.values)
    differences, extra_length = members.mean(axis=1), layout.differences(layout.lengths)
    probability = preference(members, scores.temperature)
    means = scores.values.mean(axis=1)
    known = is_reward_bench(set(subsets))
    return PairResults(
        accuracy=accuracy_by_subset(subsets, roots, extra_length, differences),
        calibration=folded_calibration(probability, roots, scores.temperature),
        length=score_by_length(means, layout.lengths, differences, extra_length, roots),
        reward_bench=reward_bench(subsets, roots, differences) if known else None,
    )


def _rm_bench(scores: Scores, examples: Examples, layout: Layout) -> RmBenchResults:
    chosen, rejected = layout.matrix(scores.values.mean(axis=1))
    return RmBenchResults(
        rows=rm_bench(examples.subsets, examples.roots, chosen, rejected),
        longer=rm_bench(examples.subsets, examples.roots, *layout.matrix(layout.lengths)),
    )


def _reward_bench_2(scores: Scores, examples: Examples, layout: Layout) -> RewardBench2Results:
    model = _scored(scores.values.mean(axis=1), examples, layout)
    longer = _scored(layout.lengths, examples, layout)
    return RewardBench2Results(
        rows=reward_bench_2(model, examples.roots), longer=reward_bench_2(longer, examples.roots)
    )


def _scored(means: Array, examples: Examples, layout: Layout) -> list[Scored]:
    ids = examples.table["id"] if "id" in examples.table.column_names else [""] * len(layout.chosen)
    return [
        Scored(id=str(name), subset=subset, chosen=tuple(means[good]), rejected=tuple(means[poor]))
        for name, subset, good, poor in zip(
            ids, examples.subsets, layout.chosen, layout.rejected, strict=True
        )
    ]


def _compare(
    scores: Sequence[Scores], examples: Examples, layout: Layout
) -> list[Comparison] | None:
    if len(scores) < 2:
        return None
    first, second = (_earned(each.values.mean(axis=1), examples, layout) for each in scores)
    return compare_by_subset(examples.subsets, examples.roots, first, second)


def _earned(means: Array, examples: Examples, layout: Layout) -> Array:
    """What a model earns on each row, 0 to 1: on pairs one half for a tie, elsewhere its rules."""
    if examples.kind == "pairs":
        return right(layout.differences(means))
    if examples.kind == "rm-bench":
        return np.asarray(wins_of_styles(*layout.matrix(means)).mean(axis=(1, 2)))
    return credits(_scored(means, examples, layout))


def _rate(scores: Mapping[str, Scores], examples: Examples, layout: Layout) -> Raters:
    models = {
        name: choices(layout.differences(each.values.mean(axis=1))) for name, each in scores.items()
    }
    raters, agreement = measure_raters({**examples.labels, **models}, examples.roots)
    return Raters(raters=raters, agreement=agreement)
