"""Oracles of the ensemble mean and spread (arXiv 2401.06080, Eq. 4) on tables of pairs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from rich.console import Console

from assay.errors import DataError, ScoringError
from assay.models.scorer import EncodedInput
from linear_ensemble import LinearEnsemble
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.strength.columns import add_strength, quantiles, read_strength
from reward_trainer.strength.differences import measure, standardise
from reward_trainer.strength.released import released
from reward_trainer.strength.summary import agreement, auc, summarise, tables
from toy import ToyScorer, toy_scores

QUIET = Console(file=io.StringIO())
# One row of fnlp/hh-rlhf-strength-cleaned; mean, population std and votes worked out by hand.
CHOSEN = [3.71875, 0.58984375, 3.390625, 0.006805419921875, -0.6953125]
CHOSEN += [1.0390625, 1.4140625, 0.8359375, 3.078125, 2]
REJECTED = [3.546875, 0.9921875, 2.125, -0.330078125, 1.171875]
REJECTED += [1.2578125, 1.078125, 1.0546875, 3.546875, 2.265625]
RELEASED = {
    "chosen": ["When did it start?", "In 1939.", "How many died?", "56 million."],
    "rejected": ["When did it start?", "In 1939.", "How many died?", "Over 400,000."],
    "chosen_score_list": CHOSEN,
    "rejected_score_list": REJECTED,
    "mean preference difference": -0.1331085205,
}


def pairs(*sides: tuple[str, str]) -> datasets.Dataset:
    chosen, rejected = zip(*sides, strict=True)
    prompts = [f"p{i}" for i in range(len(sides))]
    return datasets.Dataset.from_dict(
        {"prompt": prompts, "chosen": list(chosen), "rejected": list(rejected)}
    )


def released_table(tmp_path: Path, *rows: dict[str, object]) -> datasets.Dataset:
    path = tmp_path / "valid.json"
    path.write_text(json.dumps(list(rows)))
    return read_preferences(str(path))


def test_the_released_scores_of_a_row(tmp_path: Path) -> None:
    measured = released(released_table(tmp_path, RELEASED))
    table = add_strength(released_table(tmp_path, RELEASED), measured.differences, measured.model)
    row = table[0]
    assert row["strength_mean"] == pytest.approx(-0.1331085205, abs=1e-9)
    assert row["strength_std"] == pytest.approx(0.7559609370, abs=1e-9)  # sample std: .7968527943
    assert (row["strength_votes"], row["strength_members"]) == (4, 10)
    assert row["strength_model"] == "released-scores"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"chosen_score_list": None}, "row 2: column 'chosen_score_list' has no 10 numbers"),
        ({"rejected_score_list": REJECTED[:9]}, "row 2: column 'rejected_score_list' has no 10"),
        ({"mean preference difference": 0.4}, "row 2: 'mean preference difference' is not the"),
    ],
)
def test_misaligned_released_scores_are_named(
    tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(DataError, match=named):
        released(released_table(tmp_path, RELEASED, RELEASED | changes))


def test_released_scores_of_one_model_or_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'chosen_score_list': --released-scores reads"):
        released(pairs(("a", "b")))
    one = {"chosen_score_list": [1.0], "rejected_score_list": [0.0]}
    with pytest.raises(DataError, match="has one member"):
        released(released_table(tmp_path, {k: RELEASED[k] for k in ("chosen", "rejected")} | one))


def test_differences_are_those_of_each_text_scored_alone() -> None:
    sides = [(f"chosen {i}" * (i + 1), f"other {i}") for i in range(8)] + [("a", "b"), ("a", "c")]
    measured = measure(ToyScorer(), pairs(*sides), QUIET)
    expected = [
        np.subtract(
            toy_scores([*f"p{i}{chosen}".encode()][-64:], 3),
            toy_scores([*f"p{i}{rejected}".encode()][-64:], 3),
        )
        for i, (chosen, rejected) in enumerate(sides)
    ]
    np.testing.assert_allclose(measured.differences, expected)
    assert measured.truncated == sum(len(chosen) + 2 > 64 for chosen, _ in sides) == 1


def test_an_offset_of_a_member_for_a_prompt_changes_nothing() -> None:
    table = pairs(("abc", "b"), ("ca", "bb"))
    scorer = LinearEnsemble(np.random.default_rng(0).normal(size=(3, 128)))
    before = measure(scorer, table, QUIET).differences
    score = scorer.score

    def shifted(batch: list[EncodedInput]) -> np.ndarray:
        return np.add(score(batch), [5.0, -2.0, 0.5])

    scorer.score = shifted  # type: ignore[method-assign, assignment]
    np.testing.assert_allclose(measure(scorer, table, QUIET).differences, before)


def test_swapping_negates_the_mean_and_keeps_the_spread_and_members_may_be_permuted() -> None:
    differences = np.random.default_rng(0).normal(size=(20, 5))
    table = pairs(*[(f"a{i}", "b") for i in range(20)])
    rows, swapped, permuted = (
        add_strength(table, d, "m@1").to_dict()
        for d in (differences, -differences, differences[:, ::-1])
    )
    np.testing.assert_allclose(rows["strength_mean"], np.negative(swapped["strength_mean"]))
    np.testing.assert_allclose(rows["strength_std"], swapped["strength_std"])
    assert [5 - votes for votes in rows["strength_votes"]] == swapped["strength_votes"]
    for column in ("strength_mean", "strength_std", "strength_quantile"):
        np.testing.assert_allclose(rows[column], permuted[column])


def test_two_halves_of_an_ensemble_merge_into_the_whole() -> None:
    differences = np.random.default_rng(1).normal(size=(4, 5))
    table = pairs(*[(f"a{i}", "b") for i in range(4)])
    whole, a, b = (
        add_strength(table, part, "m@1").to_pandas()
        for part in (differences, differences[:, :2], differences[:, 2:])
    )
    mean = (2 * a["strength_mean"] + 3 * b["strength_mean"]) / 5
    second = [n * (h["strength_std"] ** 2 + h["strength_mean"] ** 2) for n, h in ((2, a), (3, b))]
    np.testing.assert_allclose(whole["strength_mean"], mean)
    np.testing.assert_allclose(whole["strength_std"] ** 2, sum(second) / 5 - mean**2)


def test_quantiles_take_the_lowest_share_exactly_and_ties_share_their_place() -> None:
    values = np.random.default_rng(0).permutation(30).astype(float)
    assert (quantiles(values) < 0.1).sum() == 3
    assert quantiles(np.array([1.0, 0.0, 1.0, 2.0])).tolist() == [1.5 / 4, 0.0, 1.5 / 4, 3 / 4]


def test_standardising_makes_scales_alike_and_moves_no_vote() -> None:
    differences = np.random.default_rng(0).normal(loc=0.3, size=(50, 3)) * [1.0, 10.0, 0.1]
    standardised = standardise(differences)
    np.testing.assert_allclose((standardised**2).mean(axis=0), 1.0)
    np.testing.assert_array_equal(standardised > 0, differences > 0)
    with pytest.raises(DataError, match="member 1 scores both completions of every pair alike"):
        standardise(differences * [1.0, 0.0, 1.0])


def test_one_member_is_never_perfectly_sure() -> None:
    with pytest.raises(DataError, match="toy@1 has one member"):
        measure(ToyScorer(members=1), pairs(("a", "b")), QUIET)


def test_a_score_that_is_not_finite_names_its_row() -> None:
    with pytest.raises(ScoringError, match="row 2: a score of toy@1 is not finite"):
        measure(ToyScorer(), pairs(("a", "b"), ("a\0", "b")), QUIET)


def test_a_row_that_the_model_cannot_take_is_named() -> None:
    image = [{"role": "assistant", "content": [{"type": "image", "url": "a"}]}]
    table = datasets.Dataset.from_dict({"prompt": ["p"], "chosen": [image], "rejected": ["b"]})
    with pytest.raises(DataError, match="row 1: this model reads text"):
        measure(ToyScorer(), table, QUIET)


def measured_table() -> datasets.Dataset:
    differences = np.array([[0.5, 1.5], [-1.0, 0.0], [2.0, 4.0]])
    return add_strength(pairs(("a", "b"), ("c", "d"), ("e", "f")), differences, "toy@1")


def test_the_columns_are_read_back_and_measured_again_in_place() -> None:
    table = measured_table()
    strength = read_strength(table)
    assert strength.mean.tolist() == [1.0, -0.5, 3.0]
    assert strength.quantile.tolist() == [1 / 3, 0.0, 2 / 3]
    again = add_strength(table, np.ones((3, 2)), "toy@2")
    assert again.column_names == table.column_names
    assert again["strength_model"][:] == ["toy@2"] * 3


def test_columns_that_contradict_each_other_are_named() -> None:
    table = measured_table()
    values = {name: list(table[name]) for name in table.column_names}
    shifted = datasets.Dataset.from_dict(values | {"strength_mean": [-0.5, 3.0, 1.0]})
    with pytest.raises(DataError, match="row 1: 'strength_mean' is not the mean of .* misaligned"):
        read_strength(shifted)
    with pytest.raises(DataError, match="no column 'strength_mean': run `assay strength`"):
        read_strength(table.remove_columns(["strength_mean"]))
    mixed = datasets.Dataset.from_dict(values | {"strength_model": ["a@1", "a@1", "b@1"]})
    with pytest.raises(DataError, match="measured by a@1, b@1"):
        read_strength(mixed)
    one = {"strength_differences": [[1.0], [-0.5], [3.0]]}
    with pytest.raises(DataError, match="has one member"):
        read_strength(datasets.Dataset.from_dict(values | one))


def test_agreement_of_a_tenth_has_an_interval_by_roots() -> None:
    # Ten strengths, each with four pairs of two prompts that share their label: two roots of two
    # equal values resample to 0, 1/2 or 1 with 1/4, 1/2, 1/4, so the 95 % range is all of [0, 1].
    texts = [(f"a{i}", f"b{i}") for i in range(40)]
    table = pairs(*texts).remove_columns("prompt")
    table = table.add_column("prompt", [f"q{i // 2}" for i in range(40)])
    table = table.add_column("gpt", [i // 2 % 2 for i in range(40)])
    differences = np.repeat(np.arange(10.0), 4)[:, None] + np.zeros((40, 2))
    found = agreement(table, "gpt", differences)
    assert [decile.pairs for decile in found.deciles] == [4] * 10
    assert {(d.agreement.value, d.agreement.low, d.agreement.high) for d in found.deciles} == {
        (0.5, 0.0, 1.0)
    }


def test_the_summary_by_hand() -> None:
    table = pairs(("a", "b"), ("c", "d"), ("e", "f"), ("g", "h"))
    table = table.add_column("gpt", [1, 0, 1, -1]).add_column("topic", ["x", "x", "y", "y"])
    differences = np.array([[0.5, 1.5], [-1.0, 0.0], [2.0, 4.0], [0.0, 0.0]])
    measured = measure(ToyScorer(), table, QUIET).__class__("toy@1", differences, truncated=1)
    summary = summarise(table, measured, label="gpt", source="topic")
    assert (summary.all.pairs, summary.all.negative) == (4, 0.25)
    assert summary.all.mean == pytest.approx((1.0 - 0.5 + 3.0 + 0.0) / 4)
    assert summary.all.std == pytest.approx((0.5 + 0.5 + 1.0 + 0.0) / 4)
    assert summary.votes == [2, 0, 2]  # a difference of 0 is no vote for chosen
    assert summary.quantiles["0"] == -0.5
    assert summary.quantiles["0.5"] == 0.5
    assert {name: spread.negative for name, spread in summary.sources.items()} == {"x": 0.5, "y": 0}
    other = summary.agreement
    assert other is not None
    assert (other.pairs, other.auc) == (3, 1.0)
    assert other.agreement == pytest.approx(2 / 3)
    assert [decile.agreement.value for decile in other.deciles] == [0.0, 1.0, 1.0]
    assert other.deciles[0].agreement.low is None  # one conversation: nothing to resample
    assert other.deciles[1].expected == pytest.approx((0.6224593 + 0.8175745) / 2)
    console = Console(file=io.StringIO(), width=120)
    for part in tables(summary):
        console.print(part)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "25.0%" in shown
    assert "agrees with the label in 66.7% of 3 pairs; AUC of the mean 1.000" in shown


def test_the_auc_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(0)
    values, labels = random.integers(0, 5, 40).astype(float), random.integers(0, 2, 40)
    pairs_in_order = [
        float(one > zero) + 0.5 * float(one == zero)
        for one in values[labels == 1]
        for zero in values[labels == 0]
    ]
    assert auc(values, labels.astype(float)) == pytest.approx(np.mean(pairs_in_order))


def test_labels_to_compare_with_are_of_two_classes() -> None:
    table = pairs(("a", "b"), ("c", "d")).add_column("gpt", [1, 1])
    measured = measure(ToyScorer(), table, QUIET)
    with pytest.raises(DataError, match="'gpt' has one class only"):
        summarise(table, measured, label="gpt")
    with pytest.raises(DataError, match="no column 'GPT4 label' with labels: there are prompt"):
        summarise(table, measured, label="GPT4 label")
