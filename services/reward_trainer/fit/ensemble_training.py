"""Training an ensemble on a whole table, for those who hold pairs out themselves."""

from __future__ import annotations

from pathlib import Path

import datasets
from rich.progress import Progress

from assay.models.reward_model import RewardModel
from assay.schemas.models import ModelCard, ModelInfo
from assay.schemas.refs import ModelRef
from reward_trainer.fit.pairs import pairs_of
from reward_trainer.fit.progress import bars
from reward_trainer.fit.recipe import Recipe
from reward_trainer.fit.targets import target_columns, with_targets
from reward_trainer.fit.training import Job, job_digest, train_members, trained_members
from reward_trainer.fit.trunk_cache import TrunkCache


def train_ensemble(
    table: datasets.Dataset,
    recipe: Recipe,
    *,
    workdir: Path,
    device: str = "auto",
    progress: bool | Progress = True,
    cache: TrunkCache | None = None,
    checkpoints: int = 0,
) -> RewardModel:
    """Train the recipe's members on every row of a table.

    The same call goes on where a killed one stopped, and trains nothing if it was done.

    Args:
        table: `prompt`, `chosen` and `rejected`, and what else the recipe reads.
        recipe: how; its `sources` and shares of dev and test do not count here.
        workdir: where results are kept, in a folder per recipe and data.
        device: `auto`, `cpu` or `cuda`.
        progress: whether bars are shown on stderr, or where to show them.
        cache: trunk output of texts, to share among calls on the same texts.
        checkpoints: how many each member writes on its way.

    Returns:
        The ensemble, not calibrated: its members' offsets are free.

    Raises:
        DataError: a row or column cannot be used, or the disk is full.
        ScoringError: a loss is not finite.
        ModelLoadError: the backbone is missing, or of a kind that cannot be trained.
    """
    columns = target_columns(table, recipe, "PAIRS")
    pairs = with_targets(pairs_of(table, [""] * len(table), numbers=columns), recipe.objective)
    digest = job_digest(recipe, pairs)
    job = Job(recipe, pairs, (), workdir / digest, device, checkpoints)
    with bars(progress) as shown:
        train_members(job, shown, cache)
    ensemble, members, _ = trained_members(job)
    encoder = ensemble.encoder(recipe.max_tokens)
    info = ModelInfo(
        alias=[],
        replicas=0,
        format=encoder.format,
        pool=recipe.pool,
        members=members.count,
        max_tokens=encoder.max_tokens,
        digest=digest,
        lineage=[],
        metrics={},
        recipe=recipe.model_dump(mode="json"),
        calibration=None,
    )
    card = ModelCard(id=str(ModelRef(recipe.model, 1)), assay=info)
    return RewardModel(card, encoder, members)
