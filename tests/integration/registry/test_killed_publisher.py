"""A publisher that is killed with -9, at no chosen moment: nothing half, nothing twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from assay.models.manifest import read_manifest
from assay.registry.store import Store
from assay.schemas.refs import ModelRef

pytestmark = pytest.mark.integration

PROGRAM = """
import sys
sys.path[:0] = sys.argv[4:]
from pathlib import Path
from assay.registry.store import Store
from assay.schemas.refs import ModelRef
from saved_versions import save_version

url, scratch, first = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
store = Store(url, scratch / "cache")
for update in range(first, first + 1000):
    number = store.reserve("rm", f"l:{update}")
    print("reserved", update, number, flush=True)
    files = {f"part{i}": bytes([update % 256]) * 20_000 for i in range(12)}
    save_version(scratch / str(update), ModelRef("rm", number), files, updates=update)
    store.publish(scratch / str(update), ModelRef("rm", number))
    print("published", update, number, flush=True)
"""


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    return str(request.getfixturevalue("bucket"))


def run_and_kill(url: str, scratch: Path, first: int, lines: int) -> list[tuple[str, int, int]]:
    """What it said before it was killed, some moment after its `lines`-th line."""
    command = [sys.executable, "-c", PROGRAM, url, str(scratch), str(first), *sys.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    words = [line.split() for line in said if line.endswith("\n")]
    return [(word, int(update), int(number)) for word, update, number in words]


def test_versions_are_whole_and_numbers_stay(url: str, tmp_path: Path) -> None:
    numbers: dict[int, int] = {}
    published: set[int] = set()
    for lines in (1, 4, 7):
        # Each run begins at the update that was under way, as a trainer does after a crash.
        first = max(numbers, default=1)
        for word, update, number in run_and_kill(url, tmp_path / "scratch", first, lines):
            assert numbers.setdefault(update, number) == number
            published |= {number} if word == "published" else set()
    store = Store(url, tmp_path / "cache")
    assert len(set(numbers.values())) == len(numbers)
    assert published <= set(store.versions("rm")) <= set(numbers.values())
    for number in store.versions("rm"):
        manifest = read_manifest(store.fetch(ModelRef("rm", number)))
        assert numbers[manifest.updates or 0] == number
    assert {update: store.reserve("rm", f"l:{update}") for update in numbers} == numbers
