from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from assay.errors import DataError
from linear_ensemble import train_linear
from reward_trainer.evaluate.statistics import Estimate
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.strength.plots import save_plots
from reward_trainer.strength.run import StrengthSettings, strength
from reward_trainer.strength.summary import Agreement, Decile, Spread, Summary

QUIET = Console(file=io.StringIO())


def write(tmp_path: Path, **columns: list[Any]) -> Path:
    rows = [
        {"prompt": f"Question {i}", "chosen": f"aa{i}", "rejected": f"b{i}", "gpt": i % 2}
        | {name: values[i] for name, values in columns.items()}
        for i in range(12)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings(tmp_path: Path, **changes: Any) -> StrengthSettings:
    given: dict[str, Any] = {
        "data": str(tmp_path / "pairs.jsonl"),
        "out": tmp_path / "out" / "measured.jsonl",
        "cross_fit": 3,
        **changes,
    }
    return StrengthSettings(**given)


def test_a_cross_fitted_run_writes_the_table_the_summary_and_the_plots(tmp_path: Path) -> None:
    write(tmp_path)
    report = tmp_path / "report"
    made = strength(settings(tmp_path, label="gpt", report=report), QUIET, train_linear)
    table = read_preferences(str(tmp_path / "out" / "measured.jsonl"))
    assert table.column_names[4:] == [
        "strength_mean",
        "strength_std",
        "strength_votes",
        "strength_members",
        "strength_quantile",
        "strength_differences",
        "strength_model",
    ]
    assert set(table["strength_model"]) == {made.model}
    assert made.model.startswith("cross-fit:default@")
    assert Summary.model_validate_json((report / "summary.json").read_bytes()) == made
    for name in ("histogram.png", "spread.png", "agreement.png"):
        assert (report / name).read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["measured.jsonl"]


def test_a_named_work_folder_is_kept_and_spares_the_training(tmp_path: Path) -> None:
    write(tmp_path)
    kept = settings(tmp_path, work=tmp_path / "work")
    first = strength(kept, QUIET, train_linear)
    assert strength(kept, QUIET, lambda *_: pytest.fail("trained again")) == first


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "assay-minilm"}, "--model and --cross-fit are two ways to measure"),
        ({"released_scores": True}, "--cross-fit and --released-scores are two ways"),
        ({"out": "out.csv"}, r"written to \.jsonl"),
        ({"label": "missing"}, "no column 'missing' with labels"),
        ({"label": "one"}, "'one' has one class only"),
        ({"source": "missing"}, "no column 'missing' to group by"),
        ({"group": "missing"}, "no column 'missing' to group by"),
        ({"recipe": "missing"}, "no recipe 'missing'"),
        ({"recipe": "bt"}, "recipe bt has one member"),
        ({"recipe": "flip", "members": 2}, "recipe flip goes by the strength"),
        ({"cross_fit": 13}, "13 folds need as many groups, and there are 12"),
    ],
)
def test_what_would_fail_at_the_end_fails_before_training(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    write(tmp_path, one=[1] * 12)
    with pytest.raises(DataError, match=named):
        strength(settings(tmp_path, **changes), QUIET, lambda *_: pytest.fail("trained"))


def test_a_denoised_table_is_not_measured(tmp_path: Path) -> None:
    write(tmp_path, denoise_action=["keep"] * 12)
    with pytest.raises(DataError, match="`assay denoise --undo` it"):
        strength(settings(tmp_path), QUIET, train_linear)


def test_plots_of_extreme_data_are_drawn(tmp_path: Path) -> None:
    spread = Spread(pairs=1, negative=1.0, mean=-1.0, std=0.0)
    agrees = Estimate(value=0.0, low=None, high=None)
    decile = Decile(pairs=1, mean=-1.0, agreement=agrees, expected=0.3)
    summary = Summary(
        model="toy@1",
        members=2,
        standardised=False,
        truncated=0,
        all=spread,
        quantiles={},
        votes=[1, 0, 0],
        sources={},
        agreement=Agreement(column="gpt", pairs=1, agreement=0.0, auc=0.5, deciles=[decile]),
    )
    for number, differences in enumerate(([[-1.0, -1.0]], [[0.0, 0.0]], [[1e9, 1e-9]] * 3)):
        files = save_plots(tmp_path / str(number), np.array(differences), summary)
        assert all(file.stat().st_size > 5000 for file in files)
