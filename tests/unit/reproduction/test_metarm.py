"""What the MetaRM grid divides, draws and estimates; its trainings are an integration test."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from reproduction.metarm.data import CHECKPOINTS, START, Data, make_fold
from reproduction.metarm.estimates import Measure, estimate
from reproduction.metarm.grid import config_digest, specs
from reproduction.metarm.scales import SCALES, VARIANTS
from reward_trainer.fit.pairs import Pair

SCALE = SCALES["smoke"]


@pytest.fixture(scope="module")
def data() -> Data:
    random, pairs = Random(0), []
    for topic in range(4):
        texts = [f"argument {topic} {i}" for i in range(30)]
        for row in range(120):
            chosen, rejected = random.sample(texts, 2)
            pairs.append(Pair("", row + 1, f"t{topic}", f"Topic {topic}", chosen, rejected))
    answers = {f"Q{i}": tuple(f"answer {i} {j}" for j in range(5)) for i in range(8)}
    return Data(pairs, dict.fromkeys((START, *CHECKPOINTS), answers))


def sides(pairs: list[Pair]) -> set[str]:
    return {str(side) for pair in pairs for side in (pair.chosen, pair.rejected)}


def test_every_topic_is_unseen_in_one_fold(data: Data) -> None:
    folds = [make_fold(data, SCALE, fold) for fold in range(SCALE.folds)]

    unseen = [{pair.root for pair in fold.shifted} for fold in folds]
    assert set.union(*unseen) == {"t0", "t1", "t2", "t3"}
    assert not set.intersection(*unseen)
    for fold, topics in zip(folds, unseen, strict=True):
        assert not topics & {pair.root for pair in (*fold.train, *fold.original)}


def test_no_text_that_is_measured_was_trained_on_or_read_by_a_rule(data: Data) -> None:
    fold = make_fold(data, SCALE, 0)

    read = {text for phases in fold.meta.values() for p in phases for g in p for text in g[2]}
    measured = {text for groups in fold.measured.values() for g in groups for text in g[2]}
    assert not sides(fold.train) & sides(fold.original)
    assert not (read | sides(fold.train)) & (measured | sides(fold.shifted))
    assert len(fold.train) == SCALE.train_pairs
    assert fold.original
    assert fold.shifted


def test_the_policy_moves_from_one_checkpoint_to_the_next(data: Data) -> None:
    fold = make_fold(data, SCALE, 0)

    assert len(fold.meta["policy"]) == len(CHECKPOINTS)
    assert len(fold.measured["SFT"]) == SCALE.eval_prompts


def test_more_seeds_keep_the_cells_that_were_run() -> None:
    more = SCALE.model_copy(update={"seeds": SCALE.seeds + 1})
    first = next(specs(SCALE))

    assert config_digest(SCALE, first) == config_digest(more, first)
    assert len(list(specs(SCALE))) == SCALE.seeds * SCALE.folds * len(VARIANTS)
    other = SCALE.model_copy(update={"steps": 3})
    assert config_digest(SCALE, first) != config_digest(other, first)


def test_the_mean_is_over_pairs_and_the_difference_is_paired() -> None:
    # Two models, topics of 10 and 30 pairs: (5 + 15 + 7 + 21) / (2 * 40) = .6, and .05 more.
    counts = np.array([10.0, 30.0])
    first = Measure(("a", "b"), np.array([[5.0, 15.0], [7.0, 21.0]]), counts)
    second = Measure(("a", "b"), first.sums + 0.05 * counts, counts)

    assert estimate(first).value == pytest.approx(0.6)
    gain = estimate(second.minus(first))
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.05, 0.05, 0.05))


def test_the_interval_counts_both_models_and_clusters() -> None:
    """A sum of two independent means: its variance is the sum of theirs (models plus clusters)."""
    random = np.random.default_rng(0)
    by_model, by_cluster = random.normal(size=(30, 1)), random.normal(size=(1, 200))
    names = tuple(f"c{i}" for i in range(200))

    found = estimate(Measure(names, by_model + by_cluster, np.ones(200)))

    error = np.sqrt(by_model.var() / 30 + by_cluster.var() / 200)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_measures_of_other_clusters_are_not_subtracted() -> None:
    one = Measure(("a",), np.ones((2, 1)), np.ones(1))
    with pytest.raises(ValueError, match="other clusters"):
        one.minus(Measure(("b",), np.ones((2, 1)), np.ones(1)))
