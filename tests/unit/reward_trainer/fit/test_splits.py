from __future__ import annotations

import pytest

from assay.errors import DataError
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import Recipe, load_recipe
from reward_trainer.fit.splits import check_disjoint, split_by_root


def recipe(name: str = "default") -> Recipe:
    return load_recipe(name)


def pair(source: str, root: str, prompt: str = "p", chosen: str = "a") -> Pair:
    return Pair(source, 1, root, prompt, chosen, "b")


def test_no_root_is_in_two_parts_and_every_pair_in_one() -> None:
    pairs = [pair("hh_harmless_base_test", f"root {i % 300}", f"p{i}") for i in range(900)]
    split = split_by_root(pairs, recipe())
    check_disjoint(split)
    parts = (split.train, split.dev, split.test)
    assert sorted(p.key for part in parts for p in part) == sorted(p.key for p in pairs)
    assert 60 < len(split.test) < 220  # 15 % of 900, in lumps of three
    split.test.append(split.train[0])
    with pytest.raises(DataError, match="two parts"):
        check_disjoint(split)


def test_topics_are_held_out_by_number_and_evaluation_roots_are_never_trained_on() -> None:
    pairs = [pair("ukpconvarg1_strict", f"topic:{i % 14}", chosen=f"a{i}") for i in range(140)]
    pairs += [pair("llmbar", "shared", "q"), pair("pandalm_human_test", "shared", "q")]
    split = split_by_root(pairs, recipe())
    topics = [
        {p.root for p in part if p.source == "ukpconvarg1_strict"}
        for part in (split.train, split.dev, split.test)
    ]
    assert [len(part) for part in topics] == [9, 2, 3]
    assert not any(p.root == "shared" for p in split.train + split.dev)
    assert [p.source for p in split.evaluation] == ["llmbar"]


def test_a_prompt_of_two_evaluation_sources_is_measured_once() -> None:
    pairs = [pair("llmbar", "r", "same"), pair("evalbiasbench", "r", "same")]
    split = split_by_root(pairs, recipe())
    assert [p.source for p in split.evaluation] == ["llmbar"]


def test_few_roots_of_a_table_are_counted_out() -> None:
    pairs = [pair("", f"root {i % 5}", chosen=f"a{i}") for i in range(50)]
    split = split_by_root(pairs, recipe("bt"))
    assert [len({p.root for p in part}) for part in (split.train, split.dev, split.test)] == [
        3,
        1,
        1,
    ]


def test_fewer_than_three_roots_cannot_be_split() -> None:
    with pytest.raises(DataError, match="2 conversation roots"):
        split_by_root([pair("", "one"), pair("", "two")], recipe("bt"))
