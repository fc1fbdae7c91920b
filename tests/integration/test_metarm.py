"""The MetaRM grid with real trainings of a tiny model: run, stopped, run on, reported."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import torch
from rich.console import Console

from assay.errors import DataError
from reproduction.cells import Cells
from reproduction.metarm.data import CHECKPOINTS, START, read_data
from reproduction.metarm.grid import Grid, specs
from reproduction.metarm.report import write_report
from reproduction.metarm.results import AdaptedCell
from reproduction.metarm.scales import SCALES, VARIANTS, Scale
from tiny_models import save_family

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    torch.set_num_threads(1)
    backbone = save_family("bert", tmp_path_factory.mktemp("backbone"))
    training = {
        "backbone": str(backbone),
        "layers": None,
        "trunk_layers": 1,
        "learning_rate": 1e-2,
        "train_tokens": 48,
        "max_tokens": 48,
        "step_tokens": 400,
    }
    return SCALES["smoke"].model_copy(update={"train_pairs": 40, "steps": 4, "training": training})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("data"), Random(0)
    pairs = [
        {
            "prompt": f"Topic {topic}",
            "chosen": "ab" * random.randint(2, 5) + str(i % 12),
            "rejected": "yz" * random.randint(1, 3) + str(i % 12),
            "topic": f"t{topic}",
        }
        for topic in range(4)
        for i in range(60)
    ]
    samples = [
        {"prompt": f"Q{i}", "policy": policy, "completion": random.choice("abyz") * 6 + str(j)}
        for policy in (START, *CHECKPOINTS)
        for i in range(8)
        for j in range(5)
    ]
    for name, rows in {"ukpconvarg1_strict": pairs, "policy_samples_rl_drift": samples}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def grid(scale: Scale, data: Path, out: Path, console: Console | None = None) -> Grid:
    cells = Cells(out / "cells" / scale.name, AdaptedCell)
    quiet = console or Console(quiet=True)
    return Grid(scale, read_data(data), cells, out / "work", "cpu", quiet)


class Stopped(Console):
    """Stops the run when it reports its third cell."""

    lines = 0

    def print(self, *objects: object, **options: object) -> None:
        self.lines += 1
        if self.lines == 3:
            raise KeyboardInterrupt


def test_a_stopped_run_goes_on_and_ends_in_a_report(
    tiny: Scale, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cells" / tiny.name
    with pytest.raises(KeyboardInterrupt):
        grid(tiny, data, tmp_path, Stopped(quiet=True)).run()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) == 3

    grid(tiny, data, tmp_path).run()
    write_report(tmp_path, tiny)

    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert before.items() <= after.items()
    assert len(after) == len(list(specs(tiny)))
    cells = Cells(folder, AdaptedCell)
    found = [cells.read(f"fold0-seed0-{variant.name}") for variant in VARIANTS]
    results = [cell.result for cell in found if cell is not None]
    assert len({result.model_dump_json() for result in results}) == len(VARIANTS)
    text = (tmp_path / "README.md").read_text()
    assert f"{len(after)} of {len(after)} cells" in text
    assert "Highest shifted accuracy over vanilla continuation" in text
    assert "no seed is complete" not in text


def test_the_same_cell_has_the_same_result_wherever_it_is_run(
    tiny: Scale, data: Path, tmp_path: Path
) -> None:
    name = "fold1-seed0-joint-policy"
    results = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        grid(tiny, data, folder).run([name])
        cell = Cells(folder / "cells" / tiny.name, AdaptedCell).read(name)
        assert cell is not None
        results.append(cell.result)

    assert results[0] == results[1]


def test_a_report_without_cells_says_so(tmp_path: Path) -> None:
    write_report(tmp_path, SCALES["cpu"])

    assert "no seed is complete" in (tmp_path / "README.md").read_text()


def test_names_that_match_no_cell_are_refused(tiny: Scale, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cell is called rate40; fold0-seed0-none is one"):
        grid(tiny, data, tmp_path).run(["rate40"])


def test_samples_without_a_checkpoint_are_refused(tiny: Scale, data: Path, tmp_path: Path) -> None:
    (tmp_path / "ukpconvarg1_strict.jsonl").write_bytes(
        (data / "ukpconvarg1_strict.jsonl").read_bytes()
    )
    row = {"prompt": "Q", "policy": START, "completion": "a"}
    (tmp_path / "policy_samples_rl_drift.jsonl").write_text(json.dumps(row) + "\n")

    with pytest.raises(DataError, match="has no samples of OpenAssistant/oasst-rlhf-1"):
        grid(tiny, tmp_path, tmp_path)
