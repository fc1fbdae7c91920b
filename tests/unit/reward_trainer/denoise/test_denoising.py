"""Oracles of flipping, smoothing and margins (arXiv 2401.06080, 2.4.1 and Eq. 5, 6) on tables."""

from __future__ import annotations

from typing import Any, get_args

import datasets
import numpy as np
import pytest
from pydantic import ValidationError

from assay.errors import DataError
from reward_trainer.denoise.denoising import denoise, undo
from reward_trainer.denoise.expanding import copies_of, expand
from reward_trainer.denoise.policy import Action, Policy
from reward_trainer.preferences.columns import with_columns
from reward_trainer.strength.columns import add_strength

ACTIONS = get_args(Action)
CRITERIA = ("quantile", "sign", "posterior")


def policy(action: str, **changes: Any) -> Policy:
    return Policy.model_validate({"action": action, **changes})


def measured(differences: list[list[float]] | np.ndarray, **columns: list[Any]) -> datasets.Dataset:
    rows = len(differences)
    table = datasets.Dataset.from_dict(
        {
            "prompt": [f"p{i}" for i in range(rows)],
            "chosen": [f"chosen {i}" for i in range(rows)],
            "rejected": [f"rejected {i}" for i in range(rows)],
            "source": ["s"] * rows,
            **columns,
        }
    )
    return add_strength(table, np.array(differences), "toy@1")


def random_table(rows: int = 40, **columns: list[Any]) -> datasets.Dataset:
    return measured(np.random.default_rng(3).normal(0.4, 1.0, size=(rows, 5)), **columns)


def rows_of(table: datasets.Dataset) -> tuple[list[dict[str, Any]], list[str], object]:
    return table.to_list(), table.column_names, table.features


def whole(kept: datasets.Dataset, dropped: datasets.Dataset) -> datasets.Dataset:
    return datasets.concatenate_datasets([kept, dropped])


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("by", CRITERIA)
def test_twice_is_once_and_undo_restores_every_row_exactly(action: str, by: Any) -> None:
    table = random_table()
    how = policy(action) if action == "margin" else policy(action, by=by)
    once = denoise(table, how)
    twice = denoise(once.kept, how)
    assert rows_of(twice.kept) == rows_of(once.kept)
    assert len(twice.dropped) == 0
    assert rows_of(undo(whole(*once))) == rows_of(table)


def test_messages_come_back_exactly() -> None:
    user = [[{"role": "user", "content": "a"}]] * 3
    chosen = [[{"role": "assistant", "content": f"b{i}", "name": "n"}] for i in range(3)]
    rejected = [[{"role": "assistant", "content": f"c{i}"}] for i in range(3)]
    table = measured(
        [[-1.0, -2.0], [1.0, 2.0], [0.0, -1.0]], prompt=user, chosen=chosen, rejected=rejected
    )
    flipped = denoise(table, policy("flip", by="sign")).kept
    assert flipped[0]["rejected"][0]["content"] == "b0"
    assert rows_of(undo(flipped)) == rows_of(table)


def test_another_policy_starts_from_the_original_labels() -> None:
    table = random_table()
    dropped = whole(*denoise(table, policy("drop+margin")))
    for action in ("flip", "margin"):
        again = denoise(dropped, policy(action)).kept
        assert rows_of(again) == rows_of(denoise(table, policy(action)).kept)


def test_after_flipping_by_sign_no_mean_is_negative_and_sizes_stay() -> None:
    table = random_table()
    flipped = denoise(table, policy("flip+margin", by="sign")).kept
    before, after = np.array(table["strength_mean"][:]), np.array(flipped["strength_mean"][:])
    assert after.min() >= 0
    np.testing.assert_array_equal(abs(after), abs(before))
    assert flipped["margin"][:] == flipped["strength_mean"][:]  # re-signed: |mean| on flipped pairs
    np.testing.assert_array_equal(flipped["denoise_flipped"][:], before < 0)
    np.testing.assert_array_equal(np.mean(flipped["strength_differences"][:], axis=1), after)


def test_a_flipped_row_by_hand() -> None:
    table = measured([[-3.0, -1.0, 0.0], [1.0, 2.0, 3.0]])
    row = denoise(table, policy("flip+margin", below=0.5)).kept[0]
    assert (row["chosen"], row["rejected"]) == ("rejected 0", "chosen 0")
    assert row["strength_differences"] == [3.0, 1.0, 0.0]
    assert row["strength_mean"] == row["margin"] == pytest.approx(4 / 3)
    assert (row["strength_votes"], row["strength_quantile"]) == (2, 0.0)
    assert row["denoise_action"] == "flip+margin"
    assert row["denoise_flipped"] is True
    assert row["denoise_model"] == "toy@1"
    assert row["denoise_policy"] == "flip+margin, quantile < 0.5"


def test_only_pairs_that_the_ensemble_disagrees_with_are_flipped() -> None:
    table = measured([[0.1, 0.1], [1.0, 1.0], [2.0, 2.0]])
    assert denoise(table, policy("flip", below=0.9)).kept["denoise_action"][:] == ["keep"] * 3


def test_the_lowest_share_is_chosen_by_quantile() -> None:
    table = random_table(40)
    order = np.argsort(table["strength_mean"][:])
    for action, share in (("drop", 0.25), ("smooth", 0.4)):
        how = policy(action, below=share) if action == "drop" else policy(action)
        made = whole(*denoise(table, how))
        actions = zip(made["denoise_row"], made["denoise_action"], strict=True)
        chosen = sorted(row for row, name in actions if name == action)
        assert chosen == sorted(order[: int(40 * share)].tolist())


def test_the_posterior_is_the_mean_sigmoid_at_its_temperature() -> None:
    # (sigmoid(-4 / T) + sigmoid(1 / T)) / 2: T = 1 gives (.0180 + .7311) / 2 = .3745,
    # T = 4 gives (.2689 + .5622) / 2 = .4155
    table = measured([[-4.0, 1.0], [5.0, 5.0]])

    def action(below: float, temperature: float) -> str:
        how = policy("flip", by="posterior", below=below, temperature=temperature)
        return str(denoise(table, how).kept["denoise_action"][0])

    assert [action(0.374, 1.0), action(0.375, 1.0)] == ["keep", "flip"]
    assert [action(0.415, 4.0), action(0.416, 4.0)] == ["keep", "flip"]


def test_every_pair_has_a_margin_and_suspect_ones_are_smoothed() -> None:
    table = measured([[-1.0, -2.0], [1.0, 2.0]])
    made = denoise(table, policy("smooth+margin", by="sign", smoothing=0.1)).kept
    assert made["margin"][:] == [-1.5, 1.5]  # negative margins stay, as in the paper
    assert made["smoothing"][:] == [0.1, 0.0]
    assert made["denoise_action"][:] == ["smooth+margin", "margin"]


def test_what_is_in_the_way_is_named() -> None:
    table = random_table(margin=[1.0] * 40)
    for action in ("flip", "margin", "flip+margin"):
        with pytest.raises(DataError, match="a column 'margin' of its own"):
            denoise(table, policy(action))
    assert denoise(table, policy("drop")).kept["margin"][0] == 1.0
    with pytest.raises(DataError, match="a column 'smoothing' of its own"):
        denoise(random_table(smoothing=[0.1] * 40), policy("smooth"))
    with pytest.raises(DataError, match="a column 'denoise_row' of its own"):
        denoise(random_table(denoise_row=[1] * 40), policy("flip"))


def test_tables_that_were_not_measured_or_by_one_member_are_refused() -> None:
    table = random_table()
    with pytest.raises(DataError, match="no column 'strength_mean': run `assay strength`"):
        denoise(table.remove_columns(["strength_mean"]), policy("flip"))
    holes = with_columns(table, {"strength_mean": [None] * 40})
    with pytest.raises(DataError, match="row 1: column 'strength_mean' holds nothing"):
        denoise(holes, policy("flip"))
    moved = with_columns(table, {"strength_mean": table["strength_mean"][1:] + [0.0]})
    with pytest.raises(DataError, match="columns are misaligned"):
        denoise(moved, policy("flip"))
    with pytest.raises(DataError, match="has one member"):
        denoise(measured([[1.0], [-1.0]]), policy("flip"))


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(DataError, match="drops every pair"):
        denoise(random_table(), policy("drop", below=1.0))


def test_undo_needs_every_row_once() -> None:
    table = random_table()
    with pytest.raises(DataError, match="nothing to undo"):
        undo(table)
    made = denoise(table, policy("drop"))
    with pytest.raises(DataError, match=r"4 of 40 rows are missing: .*`\.dropped`"):
        undo(made.kept)
    with pytest.raises(DataError, match="rows are there twice"):
        undo(whole(made.kept, made.kept))
    with pytest.raises(DataError, match="denoised by 2 policies"):
        undo(whole(made.kept, denoise(table, policy("drop", below=0.2)).kept))
    with pytest.raises(DataError, match="no column 'denoise_row'"):
        undo(made.kept.remove_columns(["denoise_row"]))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"action": "invert"}, "Input should be 'flip'"),
        ({"action": "flip", "by": "mean"}, "Input should be 'quantile'"),
        ({"action": "flip", "below": 0}, "greater than 0"),
        ({"action": "flip", "below": float("nan")}, "finite"),
        ({"action": "smooth", "smoothing": 0.5}, "less than 0.5"),
        ({"action": "flip", "temperature": 0}, "greater than 0"),
        ({"action": "margin", "below": 0.1}, "margin is for every pair"),
        ({"action": "flip", "by": "sign", "below": 0.1}, "the limit is 0"),
    ],
)
def test_policies_that_make_no_sense_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Policy.model_validate(given)


def loss(gap: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """What TRL's RewardTrainer minimises: -log sigmoid(chosen - rejected - margin)."""
    return np.asarray(np.log1p(np.exp(-(gap - margin))))


@pytest.mark.parametrize("action", ["smooth", "smooth+margin"])
def test_expanded_pairs_have_the_loss_of_smoothed_ones(action: str) -> None:
    table = random_table(12)
    made = denoise(table, policy(action, by="sign", smoothing=0.25)).kept
    copies = expand(made)
    assert len(copies) == 4 * 12
    assert "smoothing" not in copies.column_names
    # Any model: a score for each text, then the loss over copies against Eq. 5 with margin.
    random = np.random.default_rng(0)
    texts = [*table["chosen"], *table["rejected"]]
    scores = dict(zip(texts, random.normal(size=len(texts)), strict=True))

    def gaps(rows: datasets.Dataset) -> np.ndarray:
        sides = zip(rows["chosen"], rows["rejected"], strict=True)
        return np.array([scores[chosen] - scores[rejected] for chosen, rejected in sides])

    def margins(rows: datasets.Dataset) -> np.ndarray:
        has = "margin" in rows.column_names
        return np.array(rows["margin"][:]) if has else np.zeros(len(rows))

    z, a = gaps(made) - margins(made), np.array(made["smoothing"][:])
    smoothed = (1 - a) * np.log1p(np.exp(-z)) + a * np.log1p(np.exp(z))
    expanded = loss(gaps(copies), margins(copies)).reshape(12, 4).mean(axis=1)
    np.testing.assert_allclose(expanded, smoothed)
    assert rows_of(undo(copies)) == rows_of(table)


def test_smoothing_that_is_no_share_of_few_copies_is_refused() -> None:
    assert [copies_of(alphas) for alphas in ([0.0], [0.2], [0.0, 0.1, 0.25])] == [1, 5, 20]
    for alphas in ([0.123], [1 / 7, 1 / 3, 0.1]):
        with pytest.raises(DataError, match="no share of at most 20 copies"):
            copies_of(alphas)
    with pytest.raises(DataError, match="no column 'smoothing'"):
        expand(denoise(random_table(), policy("flip")).kept)


def test_flips_recover_injected_noise_with_the_precision_of_the_sign() -> None:
    # A known truth of gap 1 with noise of 0.5 a member; 25 % of the labels are turned round.
    random = np.random.default_rng(0)
    wrong = random.random(400) < 0.25
    differences = (1.0 + random.normal(0, 0.5, (400, 5))) * np.where(wrong, -1, 1)[:, None]
    made = denoise(measured(differences), policy("flip", by="sign")).kept
    flipped = np.array(made["denoise_flipped"][:])
    assert (flipped == wrong).mean() > 0.99
