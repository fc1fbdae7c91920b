"""Noise turns labels by chance, in the training part alone, and folds keep roots whole."""

from __future__ import annotations

import datasets
import pytest

from reproduction.noise import flip_mask, make_fold
from reproduction.scales import SCALES, Scale
from reward_trainer.preferences.digests import pair_digests

SCALE: Scale = SCALES["smoke"].model_copy(update={"folds": 3, "train_pairs": 150})


@pytest.fixture(scope="module")
def pairs() -> datasets.Dataset:
    rows = [
        {"prompt": f"p{root}", "chosen": f"good {i}", "rejected": f"bad {i}", "root": f"r{root}"}
        for root in range(6)
        for i in range(50)
    ]
    return datasets.Dataset.from_list(rows)


def labels(table: datasets.Dataset) -> set[tuple[str, str]]:
    return set(zip(table["prompt"], table["chosen"], strict=True))


def test_only_flipped_rows_of_the_training_part_have_turned_labels(
    pairs: datasets.Dataset,
) -> None:
    fold = make_fold(pairs, SCALE, 0.4, 0)

    turned = [chosen.startswith("bad") for chosen in fold.train["chosen"]]

    assert turned == fold.train["flipped"]
    assert any(turned)
    assert all(chosen.startswith("good") for chosen in fold.test["chosen"])
    assert any(fold.test["flipped"])


def test_every_root_is_held_out_once_and_never_trained_on_there(pairs: datasets.Dataset) -> None:
    folds = [make_fold(pairs, SCALE, 0.25, fold) for fold in range(3)]

    held_out = [root for fold in folds for root in set(fold.test["root"])]

    assert sorted(held_out) == sorted(set(pairs["root"]))
    assert all(not set(fold.test["root"]) & set(fold.train["root"]) for fold in folds)
    assert [len(fold.train) for fold in folds] == [150, 150, 150]


def test_a_higher_rate_turns_the_same_labels_and_more(pairs: datasets.Dataset) -> None:
    digests = pair_digests(pairs)

    none, some, more = (flip_mask(digests, 0, rate) for rate in (0.0, 0.25, 0.4))

    assert not none.any()
    assert some.any()
    assert more[some].all()
    assert more.sum() > some.sum()


def test_whether_a_label_turns_does_not_depend_on_the_label(pairs: datasets.Dataset) -> None:
    opposite = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"})

    same = flip_mask(pair_digests(pairs), 0, 0.4) == flip_mask(pair_digests(opposite), 0, 0.4)

    assert same.all()


def test_as_many_labels_turn_as_the_rate_says() -> None:
    names = [str(number) for number in range(20_000)]

    # Three standard deviations of a share of 20,000 draws: 3 sqrt(.24 / 20000) = .0104.
    assert flip_mask(names, 0, 0.4).mean() == pytest.approx(0.4, abs=0.0104)


def test_without_noise_labels_stay(pairs: datasets.Dataset) -> None:
    fold = make_fold(pairs, SCALE, 0.0, 1)

    assert labels(fold.train) <= labels(pairs)
    assert not any(fold.train["flipped"])
