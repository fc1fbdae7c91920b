"""What training despite noise recovers, and how thresholds are chosen."""

from __future__ import annotations

import pytest

from reproduction.results import Recovery
from reproduction.scales import BASELINE, Candidate
from reproduction.shares import ANY, choices, choose, fixed, rows

FLIP = [Candidate(family="flip", threshold=share) for share in ("0.1", "0.5")]


def recovery(fold: int, right: float, right_noisy: float = 0.0) -> Recovery:
    """Two roots of 100 pairs, and two models that get as many right."""
    return Recovery(
        train_pairs=10,
        roots=[f"{fold}a", f"{fold}b"],
        pairs=[100, 100],
        right=[[right, right]] * 2,
        right_noisy=[[right_noisy, right_noisy]] * 2,
    )


def test_recovered_is_the_share_of_what_noise_cost() -> None:
    clean = [recovery(0, 90), recovery(1, 90)]
    cells = {
        BASELINE: [recovery(0, 70), recovery(1, 70)],
        "flip 0.1": [recovery(0, 75), recovery(1, 85)],
    }

    baseline, flip = rows([fixed(Candidate(family=BASELINE), 2), fixed(FLIP[0], 2)], cells, clean)

    assert baseline.recovered is not None
    assert baseline.recovered.value == 0.0
    assert flip.accuracy.value == pytest.approx(0.80)
    assert flip.gain.value == pytest.approx(0.10)
    assert flip.recovered is not None
    assert flip.recovered.value == pytest.approx(0.5)  # 10 of 20 points
    # All draws of fold 0: 5 of 20 points; of fold 1: 15 of 20.
    assert flip.recovered.low == pytest.approx(0.25)
    assert flip.recovered.high == pytest.approx(0.75)


def test_where_noise_costs_nothing_there_is_nothing_to_recover() -> None:
    clean = [recovery(0, 90), recovery(1, 90)]

    (row,) = rows([fixed(Candidate(family=BASELINE), 2)], {BASELINE: clean}, clean)

    assert row.recovered is None


def test_models_with_different_seeds_are_told_apart() -> None:
    made = recovery(0, 80).model_copy(update={"right": [[80.0, 80.0], [60.0, 70.0]]})

    (row,) = rows([fixed(Candidate(family=BASELINE), 1)], {BASELINE: [made]}, [made])

    assert row.seeds == (0.65, 0.80)
    assert row.accuracy.value == pytest.approx(0.725)


def test_a_threshold_is_chosen_by_noisy_labels_of_the_other_folds() -> None:
    cells = {
        # .1 is best by noisy labels in folds 0 and 1, .5 in fold 2 by far.
        "flip 0.1": [recovery(0, 0, 60), recovery(1, 0, 60), recovery(2, 100, 50)],
        "flip 0.5": [recovery(0, 100, 55), recovery(1, 100, 55), recovery(2, 0, 90)],
    }

    chosen = choose("flip", ["flip 0.1", "flip 0.5"], cells)

    assert chosen.names == ("flip 0.5", "flip 0.5", "flip 0.1")


def test_each_family_is_chosen_once_and_then_the_best_of_all() -> None:
    cells = {
        BASELINE: [recovery(0, 0, 50), recovery(1, 0, 50)],
        "flip 0.1": [recovery(0, 0, 60), recovery(1, 0, 60)],
        "flip 0.5": [recovery(0, 0, 55), recovery(1, 0, 55)],
    }

    made = choices([Candidate(family=BASELINE), *FLIP], cells)

    assert [(choice.label, choice.names) for choice in made] == [
        (BASELINE, (BASELINE, BASELINE)),
        ("flip", ("flip 0.1", "flip 0.1")),
        (ANY, ("flip 0.1", "flip 0.1")),
    ]
