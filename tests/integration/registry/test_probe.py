"""The probe, in a folder and in a bucket: the same promises in both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import datasets
import pytest

from assay.registry.store import Store
from reward_trainer.gate.probe import Probe
from stores import MakeStore

pytestmark = pytest.mark.integration


def pair(number: int) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"prompt": [f"Question {number}?"], "chosen": ["Yes."], "rejected": ["No."]}
    )


def test_what_many_add_at_once_is_all_there(make_store: MakeStore) -> None:
    def add(number: int) -> int:
        return Probe(make_store(), "rm").add(pair(number % 6))

    with ThreadPoolExecutor(6) as threads:
        added = sum(threads.map(add, range(12)))

    roots = {pair.root for pair in Probe(make_store(), "rm").pairs()}
    assert added == 6
    assert roots == {f"question {number}" for number in range(6)}


def test_a_cleared_probe_is_empty_and_takes_pairs_again(store: Store) -> None:
    probe = Probe(store, "rm")
    probe.add(pair(1))

    assert probe.clear() == 1
    assert probe.rows() == []
    assert probe.add(pair(1)) == 1
