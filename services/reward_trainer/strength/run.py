"""One run of `assay strength`: read, measure, write, report."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from assay.errors import DataError
from assay.models.resolve import DEFAULT_MODEL
from assay.models.scorer import Scorer
from reward_trainer.preferences.digests import data_digest
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.preferences.roots import groups_of
from reward_trainer.preferences.writing import check_suffix, replacing, write_preferences
from reward_trainer.strength.columns import add_strength
from reward_trainer.strength.cross_fit import Train, cross_fit
from reward_trainer.strength.differences import Measured, check_members, measure, standardise
from reward_trainer.strength.released import released
from reward_trainer.strength.summary import Summary, labels_of, summarise, tables

if TYPE_CHECKING:
    from reward_trainer.fit.recipe import Recipe


class StrengthSettings(BaseModel):
    """One run of `assay strength`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = Field(description="File, folder or hub id of preference pairs.")
    out: Path = Field(description="File to write: .jsonl, .jsonl.gz or .parquet.")
    split: str | None = Field(default=None, description="Of a hub dataset or a folder.")
    skip_unusable: bool = Field(default=False, description="Leave out rows that are no pair.")
    model: str | None = Field(default=None, description="Ensemble: folder, name or hub id.")
    cross_fit: int | None = Field(default=None, description="Folds; None = no cross-fitting.")
    group: str = Field(default="root", description="`prompt`, `root` or a column.")
    recipe: str = Field(default="default", description="Recipe of `assay fit` to cross-fit with.")
    members: int | None = Field(default=None, description="Members of it; None = the recipe's.")
    work: Path | None = Field(
        default=None, description="Folder for cross-fitting; None = beside `out`, removed after."
    )
    released_scores: bool = Field(default=False, description="Use the scores in the table.")
    standardise: bool = Field(default=False, description="Each member over its root mean square.")
    label: str | None = Field(default=None, description="Column with labels of another origin.")
    source: str | None = Field(default=None, description="Column to break the summary down by.")
    report: Path | None = Field(default=None, description="Folder for the summary and the plots.")
    device: str = Field(default="auto", description="`auto` = cuda if there is one, else cpu.")


def strength(settings: StrengthSettings, console: Console, train: Train | None = None) -> Summary:
    """Measure a dataset and write it with its strength columns.

    Args:
        settings: what to do.
        console: for progress bars and the summary.
        train: makes the ensembles to cross-fit with; None = as the recipe says.

    Raises:
        DataError: the data, the recipe or a combination of settings cannot be used, or a file
            cannot be written.
        ModelLoadError: the model is missing or cannot be loaded.
        ScoringError: a score is not finite.
    """
    _check_settings(settings)
    table = read_preferences(
        settings.data, split=settings.split, skip_unusable=settings.skip_unusable
    )
    _check_table(table, settings)
    measured = _measure(table, settings, console, train)
    summary = summarise(
        table,
        measured,
        standardised=settings.standardise,
        label=settings.label,
        source=settings.source,
    )
    write_preferences(add_strength(table, measured.differences, measured.model), settings.out)
    if settings.report is not None:
        _report(settings.report, measured, summary)
    if settings.cross_fit is not None and settings.work is None:
        shutil.rmtree(_work(settings), ignore_errors=True)
    for part in tables(summary):
        console.print(part)
    return summary


def _check_settings(settings: StrengthSettings) -> None:
    named = {
        "--model": settings.model,
        "--cross-fit": settings.cross_fit,
        "--released-scores": settings.released_scores or None,
    }
    given = [flag for flag, value in named.items() if value is not None]
    if len(given) > 1:
        raise DataError(f"{' and '.join(given)} are two ways to measure: name one")
    check_suffix(settings.out)


def _check_table(table: datasets.Dataset, settings: StrengthSettings) -> None:
    """Find what would stop the run at its end before it starts."""
    if "denoise_action" in table.column_names:
        raise DataError("the table is denoised: `assay denoise --undo` it, then measure it")
    if settings.label is not None:
        labels_of(table, settings.label)
    if settings.source is not None:
        groups_of(table, settings.source)


def _measure(
    table: datasets.Dataset, settings: StrengthSettings, console: Console, train: Train | None
) -> Measured:
    if settings.cross_fit is not None:
        return _cross_fit(table, settings.cross_fit, settings, console, train)
    measured = released(table) if settings.released_scores else _score(table, settings, console)
    if settings.standardise:
        return replace(measured, differences=standardise(measured.differences))
    return measured


def _score(table: datasets.Dataset, settings: StrengthSettings, console: Console) -> Measured:
    from assay.models.loading import load
    from assay.models.options import LoadOptions

    model = load(settings.model or DEFAULT_MODEL, LoadOptions(device=settings.device))
    return measure(model, table, console)


def _cross_fit(
    table: datasets.Dataset,
    folds: int,
    settings: StrengthSettings,
    console: Console,
    train: Train | None,
) -> Measured:
    from reward_trainer.fit.recipe import load_recipe

    recipe = load_recipe(settings.recipe, {"members": settings.members})
    check_members(recipe.members, f"recipe {recipe.name}")
    if recipe.objective.denoises:
        raise DataError(
            f"recipe {recipe.name} goes by the strength that is to be measured: cross-fit with bt, "
            "default or another that takes the labels as they are"
        )
    made_of = [recipe.model_dump(mode="json"), data_digest(table), folds, settings.group]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    return cross_fit(
        table,
        groups_of(table, settings.group),
        folds,
        train or _trainer(recipe, settings),
        version=f"cross-fit:{recipe.name}@{digest[:12]}",
        workdir=_work(settings),
        console=console,
        standardised=settings.standardise,
    )


def _trainer(recipe: Recipe, settings: StrengthSettings) -> Train:
    from reward_trainer.fit.ensemble_training import train_ensemble
    from reward_trainer.fit.trunk_cache import TrunkCache

    cache = TrunkCache(_work(settings) / "trunk")

    def train(table: datasets.Dataset, folder: Path) -> Scorer:
        return train_ensemble(table, recipe, workdir=folder, device=settings.device, cache=cache)

    return train


def _work(settings: StrengthSettings) -> Path:
    return settings.work or settings.out.with_name(f"{settings.out.name}.work")


def _report(folder: Path, measured: Measured, summary: Summary) -> None:
    from reward_trainer.strength.plots import save_plots

    with replacing(folder / "summary.json") as file:
        file.write(summary.model_dump_json(indent=2).encode() + b"\n")
    save_plots(folder, measured.differences, summary)
