from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from rich.console import Console

from assay.errors import DataError
from reward_trainer.denoise.policy import Policy
from reward_trainer.denoise.run import DenoiseSettings, run
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.preferences.writing import write_preferences
from reward_trainer.strength.columns import add_strength


def measured_file(path: Path) -> Path:
    random = np.random.default_rng(0)
    table = datasets.Dataset.from_dict(
        {
            "prompt": ["p"] * 30,
            "chosen": [f"é{i}" for i in range(30)],
            "rejected": [f"b{i}" for i in range(30)],
            "note": [None, 0.1, *random.normal(size=28)],
        }
    )
    write_preferences(add_strength(table, random.normal(0.3, 1.0, (30, 4)), "toy@1"), path)
    return path


def denoise(data: Path, out: Path, action: str | None, **changes: Any) -> str:
    kinds = {key: changes.pop(key) for key in ("expand", "smoothing_column") if key in changes}
    policy = Policy.model_validate({"action": action, **changes}) if action else None
    console = Console(file=io.StringIO(), width=100)
    run(DenoiseSettings(data=str(data), out=out, policy=policy, **kinds), console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("action", "suffix", "kind"),
    [
        ("drop+margin", ".jsonl", {}),
        ("drop+margin", ".jsonl.gz", {}),
        ("flip+margin", ".parquet", {}),
        ("smooth", ".jsonl", {"expand": True}),
    ],
)
def test_undo_gives_the_same_file_again(
    tmp_path: Path, action: str, suffix: str, kind: dict[str, Any]
) -> None:
    start = measured_file(tmp_path / f"a{suffix}")
    made, again, back = (tmp_path / f"{name}{suffix}" for name in "bcd")
    denoise(start, made, action, **kind)
    denoise(made, again, action, **kind)
    assert again.read_bytes() == made.read_bytes()
    denoise(again, back, None)
    assert back.read_bytes() == start.read_bytes()
    assert not (tmp_path / f"d.dropped{suffix}").exists()


def test_dropped_rows_are_kept_beside_the_file_and_no_part_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    start, out = measured_file(tmp_path / "a.jsonl"), tmp_path / "out" / "b.jsonl"
    shown = denoise(start, out, "drop", below=0.2)
    assert "drop, quantile < 0.2" in shown
    assert len(read_preferences(str(out))) == 24
    assert len(read_preferences(str(tmp_path / "out"))) == 24
    assert len(read_preferences(str(tmp_path / "out" / "b.dropped.jsonl"))) == 6
    denoise(out, out, "flip")  # from the original labels: nothing is dropped any more
    assert len(read_preferences(str(out))) == 30
    assert [path.name for path in out.parent.iterdir()] == ["b.jsonl"]


def test_undo_without_the_dropped_rows_is_refused(tmp_path: Path) -> None:
    start, out = measured_file(tmp_path / "a.jsonl"), tmp_path / "b.jsonl"
    denoise(start, out, "drop")
    (tmp_path / "b.dropped.jsonl").unlink()
    with pytest.raises(DataError, match="3 of 30 rows are missing"):
        denoise(out, tmp_path / "c.jsonl", None)


def test_smoothing_is_expanded_or_named_never_left_out(tmp_path: Path) -> None:
    start, out = measured_file(tmp_path / "a.jsonl"), tmp_path / "b.jsonl"
    with pytest.raises(DataError, match=r"reads no soft labels .*--expand .*--smoothing-column"):
        denoise(start, out, "smooth+margin")
    with pytest.raises(DataError, match="two ways to the same effect"):
        denoise(start, out, "smooth", expand=True, smoothing_column=True)
    with pytest.raises(DataError, match="--expand is for the action smooth"):
        denoise(start, out, "flip", expand=True)
    assert not out.exists()
    denoise(start, out, "smooth", smoothing_column=True)
    assert set(read_preferences(str(out))["smoothing"]) == {0.0, 0.2}


def test_an_unmeasured_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    with pytest.raises(DataError, match="no column 'strength_mean': run `assay strength`"):
        denoise(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "flip")
