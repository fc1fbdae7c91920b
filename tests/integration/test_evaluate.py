"""`assay evaluate` as its users run it: a folder, and the same model behind a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reward_server.app import create_app
from reward_server.engine.load import load_scorer
from reward_server.settings import ServerSettings
from reward_trainer.evaluate.report import ModelReport, Report
from serving import free_port
from tiny_models import save_family
from toy import http_server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

PAIRS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and pairs of three subsets."""
    folder = tmp_path_factory.mktemp("evaluate")
    save_family("bert", folder / "toy")
    random = np.random.default_rng(0)
    rows = [
        {
            "prompt": f"\n\nHuman: question {i // 2}?\n\nAssistant:",
            "chosen": "good " * int(random.integers(1, 9)) + str(i),
            "rejected": "bad " * int(random.integers(1, 9)) + str(i),
            "subset": "abc"[i % 3],
            "judge": int(random.integers(2)),
        }
        for i in range(PAIRS)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    settings = ServerSettings(_env_file=None, model=str(folder / "toy"))
    with http_server(create_app(settings, *load_scorer(settings))) as url:
        yield url


def evaluate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "assay", "evaluate", "pairs.jsonl", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def accuracies(model: ModelReport) -> list[tuple[str, float]]:
    assert model.results.kind == "pairs"
    return [(row.subset, row.accuracy.value) for row in model.results.accuracy]


def test_a_server_and_its_folder_measure_the_same(folder: Path, url: str) -> None:
    done = evaluate(
        folder, "--url", url, "--against", "toy", "--labels", "judge", "--out", "report.json"
    )
    assert done.returncode == 0, done.stderr
    assert "Paired comparison" in done.stdout
    report = Report.model_validate_json((folder / "report.json").read_text())
    remote, local = report.models
    assert (remote.name, local.name) == (f"toy@1 ({url[7:]})", "toy@1 (toy)")
    assert accuracies(remote) == accuracies(local)
    assert [name for name, _ in accuracies(local)] == ["a", "b", "c", "all"]
    assert report.data.roots == PAIRS // 2
    assert report.comparison is not None
    assert all(row.difference.value == 0 for row in report.comparison)
    assert report.raters is not None
    assert len(report.raters.agreement) == 3


def test_a_version_that_is_not_served_and_a_server_that_is_gone(folder: Path, url: str) -> None:
    other = evaluate(folder, "--url", url, "--model", "toy@2")
    gone = evaluate(folder, "--url", f"http://127.0.0.1:{free_port()}")
    for done, named in ((other, "toy@2"), (gone, "no answer from 127.0.0.1")):
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("assay evaluate: ")
        assert named in done.stderr
