"""Which cells there are, and which configuration each belongs to."""

from __future__ import annotations

import pytest

from reproduction.plan import Spec, config_digest, specs
from reproduction.scales import SCALES, Candidate

SCALE = SCALES["cpu"]
FLIP, BT = SCALE.candidates[1], SCALE.candidates[0]


@pytest.mark.parametrize("name", SCALES)
def test_cells_have_names_of_their_own_and_follow_the_strength_that_they_need(name: str) -> None:
    made = specs(SCALES[name])

    assert len({spec.name for spec in made}) == len(made)
    assert len({config_digest(SCALES[name], spec) for spec in made}) == len(made)
    assert all(spec.strength in made[: place + 1] for place, spec in enumerate(made))


def test_a_name_says_rate_fold_and_candidate() -> None:
    candidate = Candidate(family="flip", threshold="0.1")

    assert Spec(0.4, 2, candidate).name == "rate40-fold2-flip_0.1"
    assert Spec(0.0, 0).name == "rate00-fold0-strength"


def test_recipes_that_read_strength_belong_to_how_it_was_measured() -> None:
    more = SCALE.model_copy(update={"members": 7})

    assert config_digest(SCALE, Spec(0.4, 0, FLIP)) != config_digest(more, Spec(0.4, 0, FLIP))
    assert config_digest(SCALE, Spec(0.4, 0, BT)) == config_digest(more, Spec(0.4, 0, BT))


def test_more_rates_and_candidates_leave_other_cells_as_they_are() -> None:
    fewer = SCALE.model_copy(update={"rates": (0.4,), "candidates": (BT, FLIP)})

    assert config_digest(SCALE, Spec(0.4, 0, FLIP)) == config_digest(fewer, Spec(0.4, 0, FLIP))
