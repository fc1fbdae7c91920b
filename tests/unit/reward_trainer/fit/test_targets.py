from __future__ import annotations

import math
from typing import Any

import datasets
import pytest

from assay.errors import DataError
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import Objective, load_recipe
from reward_trainer.fit.targets import target_columns, with_targets


def pairs(*strengths: float) -> list[Pair]:
    return [Pair("", i, "", "p", f"c{i}", f"r{i}", strength=s) for i, s in enumerate(strengths)]


def table(**columns: list[Any]) -> datasets.Dataset:
    rows = len(next(iter(columns.values())))
    texts = {
        "prompt": [f"p{i}" for i in range(rows)],
        "chosen": ["a"] * rows,
        "rejected": ["b"] * rows,
    }
    return datasets.Dataset.from_dict(texts | columns)


def test_only_negative_pairs_of_the_weakest_share_flip() -> None:
    made = with_targets(pairs(0.1, -2.0, 0.3, -0.5, -1.0, 1.0), Objective(flip=0.34))
    # 0.34 of 6 are the ranks 0, 1 and 2: strengths -2, -1 and -0.5.
    assert [pair.chosen[0] for pair in made] == ["c", "r", "c", "r", "r", "c"]
    made = with_targets(pairs(1.0, 2.0, 3.0), Objective(flip=0.9))
    assert all(str(pair.chosen)[0] == "c" for pair in made)


def test_the_margin_turns_its_sign_with_the_label() -> None:
    made = with_targets(pairs(-2.0, -0.5, 1.5), Objective(flip=0.1, margin="strength"))
    assert [pair.margin for pair in made] == [2.0, -0.5, 1.5]
    made = with_targets(pairs(-2.0, 1.0), Objective(margin="strength"))
    assert [pair.margin for pair in made] == [-2.0, 1.0]


def test_soft_targets_by_scheme() -> None:
    def smoothing(**options: Any) -> list[float]:
        return [pair.smoothing for pair in with_targets(pairs(-1.0, 2.0), Objective(**options))]

    assert smoothing(smoothing="all", smoothing_alpha=0.1) == [0.1, 0.1]
    assert smoothing(smoothing="negative") == [0.2, 0.0]
    # 1 - sigmoid(1.5 x): x = -1 gives 1 / (1 + e^-1.5), x = 2 gives 1 / (1 + e^3).
    expected = [1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(3))]
    assert smoothing(smoothing="strength") == pytest.approx(expected)
    assert smoothing() == [0.0, 0.0]


def test_a_recipe_without_the_strength_it_needs_names_the_command() -> None:
    for name in ("margin", "flip", "flip_margin", "soft_margin"):
        with pytest.raises(DataError, match=r"assay strength p\.jsonl --cross-fit 5 --out"):
            target_columns(table(x=[1]), load_recipe(name), "p.jsonl")


def test_a_plain_margin_column_goes_before_strength() -> None:
    columns = table(margin=[3.0], strength_mean=[1.0])
    assert target_columns(columns, load_recipe("margin"), "")["margin"] == [3.0]
    assert target_columns(columns, load_recipe("flip_margin"), "") == {"strength": [1.0]}
    assert target_columns(columns, load_recipe("bt"), "") == {}
    (kept,) = with_targets(
        [Pair("", 1, "", "p", "a", "b", margin=3.0, strength=1.0)], Objective(margin="strength")
    )
    assert kept.margin == 3.0


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"margin": [1.0, None]}, "row 2: column 'margin' holds nothing"),
        ({"margin": [1.0, float("nan")]}, "row 2: column 'margin' holds nan"),
        ({"margin": ["1", "2"]}, "row 1: column 'margin' holds '1'"),
        ({"margin": [1.0, 1.0], "weight": [1.0, -2.0]}, "row 2: column 'weight' is -2.0"),
    ],
)
def test_margins_and_weights_that_cannot_be_used_are_named(
    columns: dict[str, list[Any]], named: str
) -> None:
    with pytest.raises(DataError, match=named):
        target_columns(table(**columns), load_recipe("margin"), "")


def test_a_denoised_table_is_taken_as_it_is_and_never_denoised_again() -> None:
    denoised = table(
        denoise_action=["flip+margin", "keep"],
        denoise_flipped=[True, False],
        margin=[2.0, 0.5],
        smoothing=[0.0, 0.2],
        strength_mean=[2.0, 0.5],
    )
    assert target_columns(denoised, load_recipe("bt"), "") == {
        "margin": [2.0, 0.5],
        "smoothing": [0.0, 0.2],
        "flipped": [True, False],
    }
    with pytest.raises(DataError, match="would do so again"):
        target_columns(denoised, load_recipe("flip"), "")
