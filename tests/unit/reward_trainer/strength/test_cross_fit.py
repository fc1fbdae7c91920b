from __future__ import annotations

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
from rich.console import Console

from assay.errors import DataError
from assay.models.scorer import Scorer
from linear_ensemble import LinearEnsemble, train_linear
from reward_trainer.preferences.roots import groups_of
from reward_trainer.strength.cross_fit import assign_folds, check_groups, cross_fit
from reward_trainer.strength.differences import measure

QUIET = Console(file=io.StringIO())


def table(rows: int = 24) -> datasets.Dataset:
    """Pairs of six topics, in which the text with more `a` is the better one."""
    return datasets.Dataset.from_dict(
        {
            "prompt": [f"Question {i % 12}" for i in range(rows)],
            "chosen": ["a" * (i % 5 + 2) + f"x{i}" for i in range(rows)],
            "rejected": ["b" * (i % 3 + 1) + f"y{i}" for i in range(rows)],
            "topic": [f"topic {i % 6}" for i in range(rows)],
        }
    )


def test_folds_hold_whole_groups_and_are_of_like_size_whatever_the_order() -> None:
    groups = [f"g{i // 3}" for i in range(60)] + ["large"] * 20
    folds = assign_folds(groups, 4)
    assert np.bincount(folds).tolist() == [20, 21, 21, 18]
    by_group: dict[str, set[int]] = {}
    for group, fold in zip(groups, folds, strict=True):
        by_group.setdefault(group, set()).add(int(fold))
    assert all(len(found) == 1 for found in by_group.values())
    np.testing.assert_array_equal(assign_folds(groups[::-1], 4), folds[::-1])


@pytest.mark.parametrize(
    ("folds", "named"), [(1, "1 fold leaves nothing"), (0, "0 fold"), (3, "3 folds need as many")]
)
def test_folds_that_cannot_be_are_refused(folds: int, named: str) -> None:
    with pytest.raises(DataError, match=named):
        assign_folds(["a", "b", "b"], folds)


def test_no_member_scores_a_pair_or_group_that_it_was_trained_on(tmp_path: Path) -> None:
    trained_on: list[set[str]] = []

    def train(part: datasets.Dataset, folder: Path) -> Scorer:
        trained_on.append(set(part["topic"]))
        return train_linear(part, folder)

    pairs = table()
    groups = groups_of(pairs, "topic")
    measured = cross_fit(pairs, groups, 3, train, version="v", workdir=tmp_path, console=QUIET)
    assert [len(topics) for topics in trained_on] == [4, 4, 4]
    folds = assign_folds(groups, 3)
    for row, topic in enumerate(pairs["topic"]):
        assert topic not in trained_on[folds[row]]
    for fold in range(3):  # each row by the ensemble of its fold, in the table's order
        rows = np.flatnonzero(folds == fold)
        scorer = train_linear(pairs.select(np.flatnonzero(folds != fold)), tmp_path / "again")
        expected = measure(scorer, pairs.select(rows), QUIET).differences
        np.testing.assert_allclose(measured.differences[rows], expected)
    assert (measured.differences.mean(axis=1) > 0).mean() > 0.9  # learnt, and unseen


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    pairs = table()
    groups = groups_of(pairs, "root")
    trained: list[Path] = []

    def train(part: datasets.Dataset, folder: Path) -> Scorer:
        trained.append(folder)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train_linear(part, folder)

    def run(version: str) -> np.ndarray:
        return cross_fit(
            pairs, groups, 3, train, version=version, workdir=tmp_path, console=QUIET
        ).differences

    with pytest.raises(KeyboardInterrupt):
        run("v")
    first = run("v")
    assert [folder.name for folder in trained] == ["fold_0", "fold_1", "fold_1", "fold_2"]
    np.testing.assert_array_equal(run("v"), first)
    assert len(trained) == 4
    run("another recipe")
    assert len(trained) == 7
    next(tmp_path.glob("*.npz")).write_bytes(b"half")
    with pytest.raises(DataError, match="is damaged"):
        run("v"), run("another recipe")


def test_members_of_each_fold_are_brought_to_one_scale(tmp_path: Path) -> None:
    def train(part: datasets.Dataset, folder: Path) -> Scorer:
        scorer = train_linear(part, folder)
        return LinearEnsemble(scorer.weights * len(set(part["prompt"])) ** 3)

    pairs = table()
    groups = groups_of(pairs, "topic")
    measured = cross_fit(
        pairs,
        groups,
        3,
        train,
        version="v",
        workdir=tmp_path,
        console=QUIET,
        standardised=True,
    )
    folds = assign_folds(groups, 3)
    for fold in range(3):
        rms = (measured.differences[folds == fold] ** 2).mean(axis=0)
        np.testing.assert_allclose(rms, 1.0)


def test_an_ensemble_of_one_is_refused(tmp_path: Path) -> None:
    pairs = table()
    with pytest.raises(DataError, match="has one member"):
        cross_fit(
            pairs,
            groups_of(pairs, "topic"),
            3,
            lambda part, folder: train_linear(part, folder, members=1),
            version="v",
            workdir=tmp_path,
            console=QUIET,
        )


def test_a_pair_that_is_in_two_groups_is_refused_either_way_round() -> None:
    pairs = datasets.Dataset.from_dict(
        {"prompt": ["p", "q", "p"], "chosen": ["a", "a", "b"], "rejected": ["b", "b", "a"]}
    )
    check_groups(pairs, ["1", "2", "1"])
    with pytest.raises(DataError, match="rows 1 and 3 are the same pair in two groups"):
        check_groups(pairs, ["1", "1", "2"])
