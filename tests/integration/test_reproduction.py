"""The grid with real trainings of a tiny model: run, stopped, run on, reported."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random

import pytest
import torch
from rich.console import Console

from assay.errors import DataError
from reproduction.cells import Cells
from reproduction.grid import Grid
from reproduction.noise import read_pairs
from reproduction.plan import specs
from reproduction.report import write_report
from reproduction.results import Detection, NoiseCell
from reproduction.scales import SCALES, Candidate, Scale
from tiny_models import save_family

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    torch.set_num_threads(1)
    backbone = save_family("bert", tmp_path_factory.mktemp("backbone"))
    return SCALES["smoke"].model_copy(
        update={
            "train_pairs": 40,
            "candidates": (
                Candidate(family="bt"),
                Candidate(family="flip", threshold="0.5", changes={"flip": 0.5}),
            ),
            "training": {
                "backbone": str(backbone),
                "trunk_layers": 1,
                "learning_rate": 1e-2,
                "train_tokens": 64,
                "max_tokens": 64,
                "step_tokens": 400,
            },
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("data"), Random(0)
    rows = [
        {
            "prompt": f"Topic {topic}",
            "chosen": "ab" * random.randint(2, 5) + str(i),
            "rejected": "yz" * random.randint(1, 3) + str(i),
            "topic": f"t{topic}",
        }
        for topic in range(4)
        for i in range(25)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "ukpconvarg1_strict.jsonl").write_text(lines)
    return folder


def grid(scale: Scale, data: Path, out: Path, console: Console | None = None) -> Grid:
    cells, table = Cells(out / "cells" / scale.name, NoiseCell), read_pairs(data, scale)
    return Grid(scale, table, cells, out / "work", "cpu", console or Console(quiet=True))


class Stopped(Console):
    """Stops the run when it reports its fourth cell."""

    lines = 0

    def print(self, *objects: object, **options: object) -> None:
        self.lines += 1
        if self.lines == 4:
            raise KeyboardInterrupt


def results(scale: Scale, out: Path) -> dict[str, object]:
    cells = [Cells(out / "cells" / scale.name, NoiseCell).read(spec.name) for spec in specs(scale)]
    return {cell.cell: cell.result for cell in cells if cell is not None}


def test_a_stopped_run_goes_on_to_the_same_cells(tiny: Scale, data: Path, tmp_path: Path) -> None:
    scale = tiny.model_copy(update={"rates": (0.4,), "trained_rates": (0.4,)})
    grid(scale, data, tmp_path / "whole").run()
    with pytest.raises(KeyboardInterrupt):
        grid(scale, data, tmp_path / "parts", Stopped(file=io.StringIO())).run()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("cells/*/*.json")}

    grid(scale, data, tmp_path / "parts").run()

    assert len(kept) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert len(results(scale, tmp_path / "whole")) == len(specs(scale)) == 6
    assert results(scale, tmp_path / "parts") == results(scale, tmp_path / "whole")


def test_a_recipe_brings_the_strength_that_it_reads(
    tiny: Scale, data: Path, tmp_path: Path
) -> None:
    grid(tiny, data, tmp_path).run(["rate40-fold0-flip*"])

    assert set(results(tiny, tmp_path)) == {"rate40-fold0-strength", "rate40-fold0-flip_0.5"}


def test_another_configuration_runs_a_cell_again(tiny: Scale, data: Path, tmp_path: Path) -> None:
    name = "rate40-fold0-strength"
    grid(tiny, data, tmp_path).run([name])
    more = tiny.model_copy(update={"members": 3})

    grid(more, data, tmp_path).run([name])

    made = results(more, tmp_path)[name]
    assert isinstance(made, Detection)
    assert len(made.differences) == 3


def test_names_that_match_no_cell_are_refused(tiny: Scale, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cell is called rate99; rate00-fold0-strength is one"):
        grid(tiny, data, tmp_path).run(["rate99"])


def test_a_damaged_cell_is_named(tiny: Scale, data: Path, tmp_path: Path) -> None:
    cell = tmp_path / "cells" / "smoke" / "rate40-fold0-strength.json"
    cell.parent.mkdir(parents=True)
    cell.write_text('{"cell": ')

    with pytest.raises(DataError, match="rate40-fold0-strength.json is no cell: remove it"):
        grid(tiny, data, tmp_path).run(["rate40-fold0-strength"])


def test_the_report_shows_what_was_run_and_what_is_missing(
    tiny: Scale, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCALES, "smoke", tiny)
    grid(tiny, data, tmp_path).run(["*-bt", "rate40-*-strength", "rate40-fold0-flip*"])

    write_report(tmp_path, tiny)

    text = (tmp_path / "README.md").read_text()
    assert "| `smoke` | 7 of 12 |" in text
    assert "| 40% | 2 of 2 | ensemble mean |" in text
    assert "missing: `flip 0.5` (1 of 2 folds)" in text
    assert (tmp_path / "detection.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "recovery.png").is_file()


def test_a_report_without_cells_says_so(tmp_path: Path) -> None:
    write_report(tmp_path, SCALES["cpu"])

    text = (tmp_path / "README.md").read_text()
    assert "| `cpu` | 0 of 57 |" in text
    assert "| 25% | 0 of 3 | missing |" in text
    assert not list(tmp_path.glob("*.png"))
