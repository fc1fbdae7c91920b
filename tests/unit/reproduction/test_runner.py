"""The command that every grid of cells has."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import BaseModel

from assay.errors import DataError
from reproduction.cells import Cell, Cells
from reproduction.runner import Place, Runner, command


class Square(BaseModel):
    value: int


class Spec(NamedTuple):
    number: int

    @property
    def name(self) -> str:
        return f"square{self.number}"


class Squares(Runner[Spec, Square]):
    def __init__(self, version: str, place: Place) -> None:
        cells = Cells(place.cells, Cell[Square])
        super().__init__([Spec(number) for number in range(3)], cells, place.console)
        self.version, self.log = version, place.work

    def digests(self, spec: Spec) -> tuple[str, str]:
        return self.version, "none"

    def work_of(self, spec: Spec) -> Callable[[], Square]:
        if spec.number == 2:
            raise DataError("two is not to be squared")
        return lambda: Square(value=spec.number**2)

    def close(self) -> None:
        self.log.mkdir(parents=True, exist_ok=True)


def run(out: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, version: str = "1") -> object:
    """The exit status."""

    def report(folder: Path, scale: str) -> None:
        cells = sorted(path.stem for path in (folder / "cells" / scale).glob("*"))
        (folder / "README.md").write_text(f"{scale}: {cells}")

    monkeypatch.setattr(sys, "argv", ["squares", "--out", str(out), *arguments])
    with pytest.raises(SystemExit) as left:
        command("Square.", {"s": "s"}, lambda _, place: Squares(version, place), report)
    return left.value.code


def test_chosen_cells_are_run_once_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = ("--scale", "s", "--only", "*0", "--only", "square1")
    assert run(tmp_path, monkeypatch, *only) == 0
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/s/*.json")}
    assert (tmp_path / "README.md").read_text() == "s: ['square0', 'square1']"
    assert Cells(tmp_path / "cells" / "s", Cell[Square]).read("square1").result.value == 1  # type: ignore[union-attr]

    assert run(tmp_path, monkeypatch, *only) == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert run(tmp_path, monkeypatch, *only, version="2") == 0
    assert all(path.stat().st_mtime_ns > time for path, time in made.items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scale", "t"), "no scale 't': there is s"),
        (("--scale", "s", "--only", "cube*"), "no cell is called cube*; square0 is one"),
        (("--scale", "s"), "two is not to be squared"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    assert run(tmp_path, monkeypatch, *arguments) == 2
    assert said in capsys.readouterr().err.splitlines()
