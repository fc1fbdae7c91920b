"""Backbones shared by several versions: the same memory, the same scores, and freed in the end."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.models.backbones import Backbones
from assay.models.loading import load
from assay.models.options import LoadOptions
from assay.models.resolve import DEFAULT_MODEL, EMBEDDED
from assay.models.reward_model import RewardModel

torch.set_num_threads(1)
TEXTS = [("Is it ready?", "It is."), ("Should it be?", "I do not think so, for many reasons.")]


def addresses(model: RewardModel) -> dict[int, int]:
    return {tensor.data_ptr(): tensor.nbytes for tensor in model.tensors()}


def scores(model: RewardModel) -> np.ndarray:
    return model.score([model.encode(*text) for text in TEXTS])


def test_a_second_version_adds_only_its_adapters_and_scores_as_if_loaded_alone() -> None:
    backbones = Backbones()
    first = load(DEFAULT_MODEL, backbones=backbones)
    second = load(DEFAULT_MODEL, backbones=backbones)
    alone = load(DEFAULT_MODEL)
    own = {at: size for at, size in addresses(second).items() if at not in addresses(first)}
    files = EMBEDDED.joinpath(DEFAULT_MODEL).rglob("adapter_model.safetensors")
    # The files hold the adapters' numbers and a header of a few kilobytes each.
    assert sum(own.values()) == pytest.approx(sum(f.stat().st_size for f in files), rel=0.1)
    assert sum(own.values()) < 0.03 * sum(addresses(second).values())
    np.testing.assert_array_equal(scores(second), scores(alone))
    np.testing.assert_array_equal(scores(first), scores(alone))


def test_adapters_of_one_version_leave_the_other_alone() -> None:
    backbones = Backbones()
    first = load(DEFAULT_MODEL, backbones=backbones)
    before = scores(first)
    second = load(DEFAULT_MODEL, backbones=backbones)
    for head in second.members.heads():
        head.bias.data.add_(7.0)
    np.testing.assert_array_equal(scores(first), before)
    np.testing.assert_allclose(scores(second), before + 7.0, atol=1e-5)


def test_a_version_is_freed_when_it_is_let_go_and_the_backbone_with_the_last_one() -> None:
    backbones = Backbones()
    first = load(DEFAULT_MODEL, backbones=backbones)
    second = load(DEFAULT_MODEL, backbones=backbones)
    shared = set(addresses(first)) & set(addresses(second))
    own = [weakref.ref(t) for t in second.tensors() if t.data_ptr() not in shared]
    common = [weakref.ref(t) for t in second.tensors() if t.data_ptr() in shared]
    assert own
    assert common
    del second
    assert [ref for ref in own if ref() is not None] == []
    assert all(ref() is not None for ref in common)
    del first
    assert [ref for ref in common if ref() is not None] == []


def test_other_options_are_another_backbone() -> None:
    backbones = Backbones()
    one = load(DEFAULT_MODEL, backbones=backbones)
    half = load(DEFAULT_MODEL, LoadOptions(dtype="bfloat16"), backbones=backbones)
    assert not set(addresses(one)) & set(addresses(half))


def test_whole_models_are_not_touched_by_it(tmp_path: Path) -> None:
    from tiny_models import save_family

    folder = save_family("bert", tmp_path / "whole")
    model = load(str(folder), backbones=Backbones())
    np.testing.assert_array_equal(scores(model), scores(load(str(folder))))
