"""`assay fit`: from files of preference pairs to a saved, calibrated and measured ensemble."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from assay.models.calibration import PairInputs, score_all
from assay.models.inputs import InputEncoder
from assay.models.loading import describe_backbone
from assay.models.manifest import Backbone, Manifest
from assay.models.members import AdapterMembers
from assay.models.options import LoadOptions
from assay.models.resolve import backbone_folder
from assay.models.saving import save
from reward_trainer.fit.data import Pair, data_digest, plain_prompt, read_sources
from reward_trainer.fit.ensemble import fresh_ensemble
from reward_trainer.fit.features import trunk_features
from reward_trainer.fit.recipe import Recipe, load_recipe
from reward_trainer.fit.report import SourceReport, markdown_table, report
from reward_trainer.fit.sampling import weighted_groups
from reward_trainer.fit.splits import Split, position, split_by_root
from reward_trainer.fit.train import train_member


class FitSettings(BaseModel):
    """One run of `assay fit`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str = Field(default="default", description="A recipe's name, or a .toml file.")
    data: Path = Field(description="Folder with the recipe's files.")
    out: Path = Field(description="Store that the model is written to, as NAME/N.")
    device: str = Field(default="auto", description="`auto` = cuda if there is one, else cpu.")


def fit(settings: FitSettings, console: Console | None = None) -> Path:
    """Train, measure, calibrate and save an ensemble.

    Members are calibrated on the dev part, which they are not trained on; the test part is scored
    once, by the finished ensemble.

    Returns:
        The folder of the new version.

    Raises:
        DataError: the recipe or a file of the data cannot be used.
        ModelLoadError: the backbone is missing or of a kind that cannot be trained.
    """
    console = console or Console(stderr=True)
    recipe = load_recipe(settings.recipe)
    split = split_by_root(read_sources(settings.data, recipe), recipe)
    backbone = _backbone(recipe)
    members, encoder = fresh_ensemble(recipe, backbone, LoadOptions(device=settings.device))
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        losses = _train(members, encoder, split.train, recipe, progress)
    reports = {
        "dev": _measure(members, encoder, split.dev),
        "test": _measure(members, encoder, split.test),
        "evaluation": _measure(members, encoder, split.evaluation),
    }
    for part, rows in reports.items():
        table = markdown_table(rows)
        console.print(f"\n{part}\n{table}", soft_wrap=True, markup=False, highlight=False)
    manifest = Manifest(
        name=recipe.model,
        version=_next_version(settings.out / recipe.model),
        created=int(time.time()),
        kind="adapters",
        members=list(members.names),
        backbone=backbone,
        trunk_layers=recipe.trunk_layers,
        input_format=encoder.format,
        max_tokens=encoder.max_tokens,
        recipe=recipe.model_dump(mode="json"),
        data_digest=data_digest(split.train),
        metrics=_metrics(split, losses, reports),
        credits=[source.credit for source in recipe.sources if source.credit],
        notes=list(recipe.notes),
    )
    return save(members, encoder, manifest, settings.out, _encode_pairs(encoder, split.dev))


def _backbone(recipe: Recipe) -> Backbone:
    source = recipe.backbone
    package = source.removeprefix("package:").partition("/")[0]
    revision = metadata.version(package) if source.startswith("package:") else None
    folder = Path(backbone_folder(source))
    return describe_backbone(source, revision, folder, recipe.layers, recipe.pool)


def _train(
    members: AdapterMembers,
    encoder: InputEncoder,
    pairs: Sequence[Pair],
    recipe: Recipe,
    progress: Progress,
) -> list[float]:
    pairs = [_in_training_form(pair, recipe) for pair in pairs]
    short = replace(encoder, max_tokens=recipe.train_tokens)
    texts = [text for pair in pairs for text in pair.texts]
    features = trunk_features(texts, short, members, progress)
    groups = weighted_groups(pairs, recipe)
    return [
        train_member(index, members, groups, features, recipe, progress)
        for index in range(members.count)
    ]


def _in_training_form(pair: Pair, recipe: Recipe) -> Pair:
    """A share of the single-turn prompts without HH marks, so that both forms are understood."""
    if position(recipe.split_salt, pair.prompt) < recipe.plain_share:
        return replace(pair, prompt=plain_prompt(pair.prompt))
    return pair


def _encode_pairs(encoder: InputEncoder, pairs: Sequence[Pair]) -> list[PairInputs]:
    return [
        (encoder.encode(pair.prompt, pair.chosen), encoder.encode(pair.prompt, pair.rejected))
        for pair in pairs
    ]


def _measure(
    members: AdapterMembers, encoder: InputEncoder, pairs: Sequence[Pair]
) -> list[SourceReport]:
    inputs = _encode_pairs(encoder, pairs)
    texts = {side.digest: side for pair in inputs for side in pair}
    means = score_all(members, list(texts.values())).mean(axis=1)
    scores = dict(zip(texts, means, strict=True))
    differences = [scores[chosen.digest] - scores[rejected.digest] for chosen, rejected in inputs]
    return report(pairs, np.array(differences))


def _metrics(
    split: Split, losses: Sequence[float], reports: dict[str, list[SourceReport]]
) -> dict[str, Any]:
    return {
        "pairs": {"train": len(split.train), "dev": len(split.dev), "test": len(split.test)},
        "train_loss": list(losses),
        **{part: [row.model_dump(mode="json") for row in rows] for part, rows in reports.items()},
    }


def _next_version(folder: Path) -> int:
    taken = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    return max(taken, default=0) + 1
