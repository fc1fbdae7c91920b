"""`assay fit`: from preference pairs to a saved, calibrated and measured reward model."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from safetensors import SafetensorError

from assay.errors import DataError
from assay.models.manifest import Manifest
from assay.models.saving import save
from reward_trainer.evaluate.accuracy import Accuracy
from reward_trainer.evaluate.tables import accuracy_table, print_table
from reward_trainer.fit.checkpoints import Outcome
from reward_trainer.fit.cross_fitting import cross_fitted, fold_jobs
from reward_trainer.fit.measuring import differences, input_pairs, measure
from reward_trainer.fit.pairs import (
    Pair,
    bare_prompt,
    find_source,
    pairs_of,
    read_sources,
    without_repeats,
)
from reward_trainer.fit.progress import bars
from reward_trainer.fit.recipe import Recipe, load_recipe
from reward_trainer.fit.splits import Split, position, split_by_root
from reward_trainer.fit.targets import target_columns, with_targets
from reward_trainer.fit.training import (
    Job,
    is_first_process,
    job_digest,
    train_members,
    trained_members,
)
from reward_trainer.fit.trunk_cache import TrunkCache
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.preferences.roots import groups_of

_CHECKPOINTS = 8


class FitSettings(BaseModel):
    """One run of `assay fit`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str = Field(default="default", description="A recipe's name, or a .toml file.")
    changes: Mapping[str, Any] = Field(
        default_factory=dict, description="Fields of the recipe to set; None changes nothing."
    )
    data: str = Field(description="A table of pairs, or the folder of the recipe's sources.")
    split: str | None = Field(default=None, description="Split of a hub dataset.")
    group: str = Field(
        default="root", description="What a split of a table goes by: prompt, root or a column."
    )
    out: Path = Field(description="Store that the model is written to, as NAME/N.")
    workdir: Path | None = Field(
        default=None, description="Where checkpoints and curves go; None = OUT/.fit."
    )
    device: str = Field(default="auto", description="`auto` = cuda if there is one, else cpu.")
    checkpoints: int = Field(default=_CHECKPOINTS, ge=0, description="Per member, on its way.")
    ray_workers: int = Field(default=0, ge=0, description="0 = this process, without Ray.")


def fit(settings: FitSettings, console: Console | None = None) -> Path | None:
    """Train, measure, calibrate and save a reward model.

    The same settings go on where a killed run stopped. Members are calibrated on the dev part,
    which they are not trained on; the test part is scored once, by the finished model.

    Returns:
        The folder of the new version; None in all processes but the first.

    Raises:
        DataError: the recipe or the data cannot be used, or a disk is full.
        ScoringError: a loss is not finite.
        ModelLoadError: the backbone is missing or of a kind that cannot be trained.
    """
    console = console or Console(stderr=True)
    recipe = load_recipe(settings.recipe, settings.changes)
    split = _read_split(settings, recipe)
    job = _job(settings, recipe, split)
    folds = fold_jobs(job, [pair.root for pair in split.train])
    if settings.ray_workers:
        from reward_trainer.fit.ray_training import train_on_ray

        for each in (job, *folds):
            train_on_ray(each, settings.ray_workers)
    else:
        _train_here((job, *folds), console)
        if not is_first_process(job):
            return None
    folder = _finish(job, folds, split, settings.out, console)
    _clean_up(job, console)
    return folder


def _train_here(jobs: Sequence[Job], console: Console) -> None:
    """One job after another, on trunk output that all of them share."""
    cache = TrunkCache(jobs[0].folder / "trunk")
    try:
        with bars(console if is_first_process(jobs[0]) else False) as progress:
            for job in jobs:
                train_members(job, progress, cache)
    finally:
        cache.close()


def _read_split(settings: FitSettings, recipe: Recipe) -> Split:
    folder = Path(settings.data)
    if recipe.sources and (folder.is_dir() or not folder.exists()):
        find_source(folder, recipe.sources[0].name)
        return split_by_root(read_sources(folder, recipe), recipe)
    table = read_preferences(settings.data, split=settings.split)
    columns = target_columns(table, recipe, settings.data)
    name = folder.name.partition(".")[0] if folder.exists() else settings.data
    pairs = pairs_of(table, groups_of(table, settings.group), name, columns)
    split = split_by_root(pairs, recipe.model_copy(update={"sources": ()}))
    dev, test = (
        without_repeats([pair.as_labelled() for pair in part]) for part in (split.dev, split.test)
    )
    return replace(split, dev=dev, test=test)


def _job(settings: FitSettings, recipe: Recipe, split: Split) -> Job:
    train = [_in_training_form(pair, recipe) for pair in split.train]
    train = with_targets(train, recipe.objective)
    workdir = settings.workdir or settings.out / ".fit"
    return Job(
        recipe=recipe,
        train=train,
        dev=split.dev,
        folder=workdir / f"{recipe.model}-{job_digest(recipe, train)}",
        device=settings.device,
        checkpoints=settings.checkpoints,
        tensorboard=True,
    )


def _in_training_form(pair: Pair, recipe: Recipe) -> Pair:
    """A share of the single-turn prompts without HH marks, so that both forms are understood."""
    if not isinstance(pair.prompt, str):
        return pair
    plain = position(recipe.split_salt, pair.prompt) < recipe.plain_share
    return replace(pair, prompt=bare_prompt(pair.prompt)) if plain else pair


def _finish(job: Job, folds: Sequence[Job], split: Split, out: Path, console: Console) -> Path:
    recipe = job.recipe
    ensemble, members, outcomes = trained_members(job)
    encoder = ensemble.encoder(recipe.max_tokens)
    parts = {"dev": split.dev, "test": split.test, "evaluation": split.evaluation}
    with bars(console) as progress:
        reports = {
            part: measure(part, members, encoder, pairs, progress)
            for part, pairs in parts.items()
            if pairs
        }
        calibration, strengths = split.dev, None
        if folds:
            calibration = [pair.as_labelled() for pair in split.train]
            final = differences("dev", members, encoder, split.dev, progress)
            strengths = cross_fitted(folds, calibration, split.dev, final, encoder, progress)
    for part, rows in reports.items():
        print_table(accuracy_table(part, rows, "source"), console)
    manifest = Manifest(
        name=recipe.model,
        version=_next_version(out / recipe.model),
        created=int(time.time()),
        kind="adapters" if recipe.adapter == "lora" else "whole",
        members=list(ensemble.names),
        backbone=ensemble.backbone if recipe.adapter == "lora" else None,
        trunk_layers=recipe.trunk_layers if recipe.adapter == "lora" else 0,
        input_format=encoder.format,
        max_tokens=encoder.max_tokens,
        recipe=recipe.model_dump(mode="json"),
        data_digest=_data_digest(split.train),
        metrics=_metrics(job, split, outcomes, reports),
        credits=[source.credit for source in recipe.sources if source.credit],
        notes=list(recipe.notes),
    )
    try:
        pairs = input_pairs(encoder, calibration)
        return save(members, encoder, manifest, out, pairs, cross_fitted=strengths)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{manifest.ref} cannot be written to {out}: {error}; free some disk and run the same "
            "command: its training is done and kept"
        ) from error


def _clean_up(job: Job, console: Console) -> None:
    for path in job.folder.iterdir():
        if path != job.curves:
            shutil.rmtree(path, ignore_errors=True)
    console.print(f"curves: tensorboard --logdir {job.curves}", soft_wrap=True, highlight=False)


def _data_digest(pairs: Sequence[Pair]) -> str:
    return hashlib.sha256("\n".join(sorted(pair.key for pair in pairs)).encode()).hexdigest()


def _metrics(
    job: Job, split: Split, outcomes: Sequence[Outcome], reports: dict[str, list[Accuracy]]
) -> dict[str, Any]:
    return {
        "pairs": {"train": len(split.train), "dev": len(split.dev), "test": len(split.test)},
        "train_loss": [outcome.loss for outcome in outcomes],
        "warnings": [w.model_dump(mode="json") for outcome in outcomes for w in outcome.warnings],
        **{part: [row.model_dump(mode="json") for row in rows] for part, rows in reports.items()},
    }


def _next_version(folder: Path) -> int:
    # Online training reserves numbers before it publishes.
    names = {path.name for where in ("*", "reserved/*") for path in folder.glob(where)}
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1
