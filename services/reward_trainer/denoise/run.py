"""One run of `assay denoise`: read, apply a policy or take it back, write."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import datasets
import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table

from assay.errors import DataError
from reward_trainer.denoise import columns
from reward_trainer.denoise.denoising import Denoised, denoise, is_denoised, undo
from reward_trainer.denoise.expanding import expand
from reward_trainer.denoise.policy import Policy
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.preferences.sources import DROPPED, SUFFIXES
from reward_trainer.preferences.writing import check_suffix, write_preferences
from reward_trainer.strength.columns import MEAN

_NO_SOFT_LABELS = (
    "TRL's RewardTrainer, like most trainers, reads no soft labels and would train on hard ones: "
    "--expand repeats pairs in both orders to the same effect, --smoothing-column writes the "
    "column `smoothing`, which `assay fit` reads"
)


class DenoiseSettings(BaseModel):
    """One run of `assay denoise`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = Field(description="File, folder or hub id of measured preference pairs.")
    out: Path = Field(description="File to write: .jsonl, .jsonl.gz or .parquet.")
    policy: Policy | None = Field(description="None = take the last one back.")
    split: str | None = Field(default=None, description="Of a hub dataset or a folder.")
    expand: bool = Field(default=False, description="Smoothing as repeated pairs.")
    smoothing_column: bool = Field(default=False, description="Smoothing as a column.")


def run(settings: DenoiseSettings, console: Console) -> None:
    """Write the denoised, or the original, table.

    Raises:
        DataError: the table or a combination of settings cannot be used, or a file cannot be
            written.
    """
    check_suffix(settings.out)
    _check_smoothing(settings)
    table = _read(settings)
    if settings.policy is None:
        original = undo(table)
        _write(Denoised(original, original.select([])), settings.out)
        console.print(f"{len(original):,} pairs as they were")
        return
    denoised = denoise(table, settings.policy)
    console.print(_counts(denoised, settings.policy))
    if settings.expand:
        pairs = len(denoised.kept)
        denoised = denoised._replace(kept=expand(denoised.kept))
        rows = len(denoised.kept)
        console.print(f"{pairs:,} pairs in {rows:,} rows: train 1/{rows // pairs} of the epochs")
    _write(denoised, settings.out)


def _check_smoothing(settings: DenoiseSettings) -> None:
    smooths = settings.policy is not None and settings.policy.choice == "smooth"
    if smooths and not (settings.expand or settings.smoothing_column):
        raise DataError(_NO_SOFT_LABELS)
    if settings.expand and settings.smoothing_column:
        raise DataError("--expand and --smoothing-column are two ways to the same effect: name one")
    if settings.expand and not smooths:
        raise DataError("--expand is for the action smooth: nothing else has soft labels")


def dropped_file(path: Path) -> Path:
    """Where the dropped rows of a denoised file are: `a.dropped.jsonl` for `a.jsonl`."""
    suffix = next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix))
    return path.with_name(f"{path.name[: -len(suffix)]}{DROPPED}{suffix}")


def _read(settings: DenoiseSettings) -> datasets.Dataset:
    """The table, with the rows that an earlier policy dropped."""
    table = read_preferences(settings.data, split=settings.split)
    path = Path(settings.data).expanduser()
    if not (is_denoised(table) and path.is_file()):
        return table
    dropped = dropped_file(path)
    if not dropped.is_file():
        return table
    both = [table, read_preferences(str(dropped))]
    try:
        return datasets.concatenate_datasets(both)
    except (ValueError, TypeError) as error:
        raise DataError(f"{dropped} does not belong to {path.name}: {error}") from error


def _write(denoised: Denoised, out: Path) -> None:
    beside = dropped_file(out)
    if len(denoised.dropped):
        write_preferences(denoised.dropped, beside)
    else:
        beside.unlink(missing_ok=True)
    write_preferences(denoised.kept, out)


def _counts(denoised: Denoised, policy: Policy) -> Table:
    table = Table(title=str(policy))
    for column in ("action", "pairs", "share", "mean strength"):
        table.add_column(column, justify="left" if column == "action" else "right")
    actions = [*denoised.kept[columns.ACTION], *denoised.dropped[columns.ACTION]]
    strengths = np.array([*denoised.kept[MEAN], *denoised.dropped[MEAN]])
    for action, rows in Counter(actions).most_common():
        mean = strengths[np.array(actions) == action].mean()
        table.add_row(action, f"{rows:,}", f"{rows / len(actions):.1%}", f"{mean:+.3f}")
    return table
