"""The study of reward modes: labels, curves and the report, against hand-made numbers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest

from reproduction.cells import Cells, Optimised
from reproduction.ppo.collected import Curve
from reproduction.ppo.proxy import label
from reproduction.ppo.report import write_report
from reproduction.ppo.scales import SCALES, specs

NAN = float("nan")
SCALE = SCALES["cpu"]


def result(gold: list[float], kl: list[float]) -> Optimised:
    """Of two prompts whose mean gold score is given for each measurement."""
    return Optimised(
        prompts=["a", "b"],
        steps=[10 * number for number in range(len(kl))],
        kl=kl,
        length=[1.0] * len(kl),
        proxy=[0.5 * value for value in kl],
        gold=[[value - 1.0, value + 1.0] for value in gold],
        gold_std=2.0,
    )


def test_neighbours_are_labelled_by_score_and_what_cannot_be_told_apart_is_left_out() -> None:
    groups = [["low", "high", "same", "equal", "odd"], ["", "x", "up", "down"]]
    scores = [np.array([0.0, 1.0, 2.0, 2.0, 9.0]), np.array([NAN, 1.0, 3.0, -1.0])]

    pairs = label(["p", "q"], groups, scores, 0.0, Random(0))

    assert [tuple(pair) for pair in pairs] == [("p", "high", "low"), ("q", "up", "down")]


def test_a_quarter_of_the_labels_is_turned_round() -> None:
    groups, scores = [["low", "high"] * 4000], [np.array([0.0, 1.0] * 4000)]

    pairs = label(["p"], groups, scores, 0.25, Random(0))

    wrong = sum(pair.chosen == "low" for pair in pairs)
    assert wrong / len(pairs) == pytest.approx(0.25, abs=0.03)  # over four standard errors


def test_a_curve_is_read_where_the_kl_first_gets_there() -> None:
    curve = Curve.of(0, result(gold=[1.0, 3.0, 2.0, 5.0], kl=[0.0, 2.0, 6.0, 4.0]))

    assert curve.gold.tolist() == [0.0, 1.0, 0.5, 2.0]  # over a std of 2
    assert curve.at(1.0) == 0.5
    assert curve.at(4.0) == 0.75
    assert curve.at(0.0) == 0.0


def test_the_report_compares_modes_at_the_end_and_at_a_shared_kl(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells" / SCALE.name)
    gains = {"score": 1.0, "contrastive": 3.0, "lcb": 2.0}
    for spec in specs(SCALE):
        if spec.name == "seed2-lcb":
            continue  # so that seed 2 is not complete
        end, kl = gains[spec.mode] + spec.seed, 4.0 if spec.mode == "score" else 8.0
        cells.run(spec.name, "", "", partial(result, [0.0, end], [0.0, kl]))

    write_report(tmp_path, SCALE)

    text = (tmp_path / "README.md").read_text()
    assert "8 of 9 cells" in text
    # Gains over a std of 2: 0.5 and 1.0 by score, 1.5 and 2.0 by contrastive; half at half the KL.
    assert (
        "`contrastive` less `score`: +1.00 (+1.00 to +1.00) after the last step, "
        "+0.12 (+0.00 to +0.25) at a KL of 4.0 nats" in text
    )
    assert "| `score` | +2.00 (+2.00 to +2.00) | +0.75 (+0.50 to +1.00) |" in text
    assert (tmp_path / "gain.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_without_cells_says_so(tmp_path: Path) -> None:
    write_report(tmp_path, SCALE)

    assert "no seed is complete" in (tmp_path / "README.md").read_text()
