from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from assay.errors import DataError
from assay.models.loading import load
from reward_trainer.fit.data import Pair, read_pairs, root_of
from reward_trainer.fit.recipe import Recipe, Source, load_recipe
from reward_trainer.fit.report import clustered_mean, report, resampled_roots
from reward_trainer.fit.run import FitSettings, fit
from reward_trainer.fit.sampling import WeightedPair, balanced_weights, steps
from reward_trainer.fit.splits import check_disjoint, split_by_root
from tiny_models import save_family

torch.set_num_threads(1)
ROW = {"prompt": "\n\nHuman: Which?\n\nAssistant:", "chosen": "this one", "rejected": "that"}


def write(folder: Path, name: str, rows: list[object]) -> None:
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def source(name: str = "pairs", root: Literal["topic", "turn", "chat"] = "turn") -> Source:
    return Source(name=name, root=root)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([], "no rows"),
        ([ROW, {**ROW, "chosen": ""}], "line 2: column 'chosen' is empty"),
        ([{**ROW, "rejected": ROW["chosen"]}], "line 1: chosen and rejected are the same"),
        ([{"prompt": "p", "chosen": "a"}], "no text in column 'rejected'"),
        ([{**ROW, "chosen": 3}], "no text in column 'chosen'"),
        ([["a"]], "not a JSON object"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, rows: list[object], named: str) -> None:
    write(tmp_path, "pairs", rows)
    with pytest.raises(DataError, match=named):
        read_pairs(tmp_path, source())


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither pairs\.jsonl"):
        read_pairs(tmp_path, source())
    (tmp_path / "pairs.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(tmp_path, source())
    (tmp_path / "pairs.jsonl").write_text("{")
    with pytest.raises(DataError, match="line 1: not JSON"):
        read_pairs(tmp_path, source())


def test_repeated_rows_count_once(tmp_path: Path) -> None:
    write(tmp_path, "pairs", [ROW, ROW, {**ROW, "chosen": "another"}])
    assert len(read_pairs(tmp_path, source())) == 2


def test_a_later_turn_of_a_chat_has_the_root_of_its_first() -> None:
    longer = ROW["prompt"].replace("Which?", "which") + " this\n\nHuman: Why?\n\nAssistant:"
    assert root_of(source(), ROW) == root_of(source(), {**ROW, "prompt": longer}) == "which"
    assert root_of(source(root="topic"), {**ROW, "topic": "t"}) == "topic:t"


def recipe(**changes: object) -> Recipe:
    return load_recipe("default").model_copy(update=changes)


def test_no_root_is_in_two_parts_and_every_pair_in_one() -> None:
    pairs = [
        Pair("hh_harmless_base_test", f"root {i % 300}", f"p{i}", "a", "b") for i in range(900)
    ]
    split = split_by_root(pairs, recipe())
    check_disjoint(split)
    parts = (split.train, split.dev, split.test)
    assert sorted(p.prompt for part in parts for p in part) == sorted(p.prompt for p in pairs)
    assert 60 < len(split.test) < 220  # 15 % of 900, in lumps of three
    split.test.append(split.train[0])
    with pytest.raises(DataError, match="two parts"):
        check_disjoint(split)


def test_topics_are_held_out_by_number_and_evaluation_roots_are_never_trained_on() -> None:
    pairs = [Pair("ukpconvarg1_strict", f"topic:{i % 14}", "p", f"a{i}", "b") for i in range(140)]
    pairs += [
        Pair("llmbar", "shared", "q", "a", "b"),
        Pair("pandalm_human_test", "shared", "q", "c", "d"),
    ]
    split = split_by_root(pairs, recipe())
    topics = [
        {p.root for p in part if p.source == "ukpconvarg1_strict"}
        for part in (split.train, split.dev, split.test)
    ]
    assert [len(part) for part in topics] == [9, 2, 3]
    assert not any(p.root == "shared" for p in split.train + split.dev)
    assert [p.source for p in split.evaluation] == ["llmbar"]


def test_balanced_weights_make_length_predict_nothing() -> None:
    extra = [5, 3, 8, -2, 0]  # three longer win, one loses, one tie
    weights = balanced_weights(extra, 1.0)
    assert sum(weights[:3]) == pytest.approx(weights[3])
    assert balanced_weights(extra, 0.0) == [1.0] * 5
    assert balanced_weights([1, 2], 1.0) == [1.0, 1.0]


def test_a_step_keeps_a_group_together_and_fits_its_tokens() -> None:
    from random import Random

    groups = [[WeightedPair(("p", f"{i}a"), ("p", f"{i}b"), 1.0)] for i in range(10)]
    tokens = {
        text: 30 for group in groups for pair in group for text in (pair.chosen, pair.rejected)
    }
    made = list(steps(groups, tokens, 130, Random(0)))
    assert [len(step) for step in made] == [2, 2, 2, 2, 2]
    assert len({pair.chosen for step in made for pair in step}) == 10


def test_the_report_by_hand() -> None:
    pairs = [
        Pair("s", "r1", "p", "long", "s"),
        Pair("s", "r1", "p", "longer", "s"),
        Pair("s", "r2", "p", "x", "much longer"),
        Pair("s", "r3", "p", "longest", "s"),
    ]
    (row,) = report(pairs, np.array([1.0, -1.0, 2.0, 0.0]))
    assert row.accuracy.value == pytest.approx((1 + 0 + 1 + 0.5) / 4)  # a tie counts half
    assert row.length_rule == 0.75
    assert row.gain.value == pytest.approx(0.625 - 0.75)
    assert row.longer_loses is not None
    assert row.longer_loses.value == 1.0
    assert (row.pairs, row.roots) == (4, 3)


def test_intervals_resample_roots_not_pairs() -> None:
    # Two roots of fifty equal pairs each: a resample holds 0, 1 or 2 of the good root, so the
    # interval of the mean goes from 0 to 1, however many pairs there are.
    values = np.repeat([0.0, 1.0], 50)
    roots = np.repeat([0, 1], 50)
    estimate = clustered_mean(values, roots, resampled_roots(2))
    assert estimate == (0.5, 0.0, 1.0)


TOY_RECIPE = """
name = "toy"
version = 1
model = "toy"
backbone = "{backbone}"
seed = 0
members = 2
trunk_layers = 1
rank = 4
alpha = 8
max_tokens = 96
train_tokens = 64
dropout = 0.0
learning_rate = 1e-2
warmup = 0.1
weight_decay = 0.0
epochs = 8
step_tokens = 400
balance = 0.5
plain_share = 0.5
split_salt = "toy"
dev_share = 0.2
test_share = 0.2

[[sources]]
name = "pairs"
root = "turn"
"""


def test_fit_learns_saves_and_calibrates_an_ensemble(tmp_path: Path) -> None:
    backbone = save_family("bert", tmp_path / "backbone")
    rows: list[object] = [
        {"prompt": f"\n\nHuman: q{i}\n\nAssistant:", "chosen": "ab" * 3, "rejected": "yz" * 3}
        for i in range(60)
    ]
    write(tmp_path, "pairs", rows)
    (tmp_path / "toy.toml").write_text(TOY_RECIPE.format(backbone=backbone))
    settings = FitSettings(recipe=str(tmp_path / "toy.toml"), data=tmp_path, out=tmp_path / "store")
    folders = [fit(settings), fit(settings)]
    assert [folder.name for folder in folders] == ["1", "2"]
    one, two = (load(str(folder)) for folder in folders)
    assert one.card.assay.metrics["test"][0]["accuracy"][0] == 1.0
    assert one.card.assay.calibration is not None
    texts = [one.encode("q", "ab"), one.encode("q", "yz")]
    scores = one.score(texts)
    assert (scores[0] > scores[1]).all()
    np.testing.assert_array_equal(scores, two.score(texts))  # the same seed, the same model
    assert abs(scores[0, 0] - scores[0, 1]) > 1e-6  # members differ


def test_a_recipe_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is default"):
        load_recipe("nothing")
    (tmp_path / "bad.toml").write_text("members = 1")
    with pytest.raises(DataError, match="bad.toml"):
        load_recipe(str(tmp_path / "bad.toml"))
