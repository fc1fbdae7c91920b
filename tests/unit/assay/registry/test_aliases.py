"""Aliases: what a flip makes of them, and who may overwrite whom."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from assay.registry.aliases import Aliases

NOW = Aliases(epoch=3, serving=6, previous=5, candidate=7, anchor=2)


def test_names_of_a_version() -> None:
    twice = Aliases(epoch=1, serving=6, previous=5, anchor=6)
    assert twice.of(6) == ["serving", "anchor"]
    assert twice.of(4) == []
    assert twice.versions() == {5, 6}


def test_a_rollback_swaps_serving_and_previous() -> None:
    assert NOW.flipped(5, by_person=True) == Aliases(
        epoch=4, serving=5, previous=6, candidate=7, anchor=5
    )


def test_what_serves_is_no_candidate() -> None:
    assert NOW.with_candidate(6).candidate is None
    assert NOW.with_candidate(8) == NOW.model_copy(update={"candidate": 8})
    assert NOW.with_candidate(None).candidate is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"epoch": 4, "serving": 9}, True),
        ({"epoch": 2}, False),
        ({"epoch": 2, "candidate": 9}, False),
        ({"candidate": 9}, True),
        ({"candidate": None, "anchor": 6}, True),
        ({"serving": 9}, False),
        ({"previous": 4}, False),
    ],
)
def test_only_newer_aliases_may_move_what_serves(changes: dict[str, int], expected: bool) -> None:
    assert NOW.model_copy(update=changes).may_replace(NOW) is expected


def test_the_first_aliases_may_come_at_epoch_zero() -> None:
    assert Aliases(serving=1).may_replace(Aliases())
    assert Aliases(serving=1).may_replace(Aliases(candidate=2))
    assert not Aliases(serving=1).may_replace(Aliases(epoch=1))
    assert not Aliases().may_replace(Aliases(serving=1))


@pytest.mark.parametrize("bad", [{"serving": 0}, {"epoch": -1}, {"serving": "x"}, {"owner": 1}])
def test_other_contents_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Aliases.model_validate(bad)


def test_a_candidate_named_while_serving_moved_is_kept() -> None:
    before = Aliases(epoch=1, serving=1, candidate=3)
    flipped = Aliases(epoch=2, serving=2, previous=1)

    assert flipped.newer(before).candidate == 3
    assert flipped.newer(Aliases(epoch=1, serving=1, candidate=2)).candidate is None
    assert Aliases(epoch=2, serving=2, candidate=4).newer(before).candidate == 4
    assert flipped.newer(Aliases(epoch=3, serving=5)) == Aliases(epoch=3, serving=5)
