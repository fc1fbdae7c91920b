"""What is installed, what it may import, and that the texts around the code agree with it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import assay
from assay.models.manifest import read_manifest, verify_files
from assay.models.resolve import DEFAULT_MODEL, EMBEDDED
from assay.settings import ClientSettings
from reward_server.settings import ServerSettings
from reward_trainer.online.settings import TrainerSettings

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "ray", "redis", "fastapi", "numpy"}
TRAINERS = {"openrlhf", "slime", "tinker", "tinker_cookbook", "trl", "verifiers", "verl"}


def imported_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import assay",
        "from assay import Client, AsyncClient",
        "import assay.errors, assay.schemas.scoring, assay.schemas.storage, assay.settings",
        "import assay.cli.main",
        "from assay.integrations import openrlhf, slime, tinker, trl, verifiers, verl",
    ],
)
def test_the_light_half_imports_nothing_heavy(code: str) -> None:
    assert not imported_by(code) & (HEAVY | TRAINERS)


def test_models_and_objectives_need_no_server() -> None:
    code = "import assay.models.loading, assay.models.saving, assay.objectives.ranking"
    assert not imported_by(code) & {"ray", "redis", "fastapi"}


def test_the_registry_needs_no_torch_and_the_store_no_redis() -> None:
    store = imported_by("import assay.registry.store")
    assert not store & {*HEAVY, "obstore"}
    assert not imported_by("import assay.registry.promotions") & (HEAVY - {"redis"})


def test_the_wheel_holds_the_packages_and_the_default_model(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"assay", "reward_server", "reward_trainer", "ppo_worker"}
    scripts = {path.as_posix() for path in (ROOT / "shared").rglob("*.lua")}
    assert {path.removeprefix(f"{ROOT}/shared/") for path in scripts} <= set(names)
    assert f"assay/models/embedded/{DEFAULT_MODEL}/1/manifest.json" in names
    assert wheel.stat().st_size < 10 * 2**20


def test_the_default_model_is_whole_and_says_what_it_is_made_of() -> None:
    folder = EMBEDDED / DEFAULT_MODEL / "1"
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    assert len(manifest.members) >= 5
    assert manifest.calibration is not None
    assert manifest.recipe["name"] == "default"
    assert manifest.credits
    assert {"dev", "test", "evaluation"} <= set(manifest.metrics)


def test_changelog_and_version_agree() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## (\d+\.\d+\.\d+)", changelog, flags=re.MULTILINE)
    assert "## Unreleased" in changelog or released[0] == assay.__version__


def test_example_settings_name_real_settings() -> None:
    names = re.findall(r"^#? ?(ASSAY_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    known = (ServerSettings, TrainerSettings, ClientSettings)
    fields = {field for settings in known for field in settings.model_fields}
    assert set(names) <= {f"ASSAY_{field.upper()}" for field in fields}


@pytest.mark.parametrize("module", ["assay", "reward_server", "reward_trainer", "ppo_worker"])
def test_help_answers_without_the_heavy_half(module: str) -> None:
    lines = ["import runpy", "sys.argv = ['x', '--help']", "try:"]
    lines += [f"    runpy.run_module('{module}', run_name='__main__')"]
    lines += ["except SystemExit:", "    pass"]
    assert not imported_by("\n".join(lines)) & {"torch", "ray", "transformers"}
