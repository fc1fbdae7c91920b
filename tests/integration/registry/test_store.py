"""The store, in a folder and in a bucket: the same promises in both."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from assay.errors import ArtifactError, ConflictError, InvalidInputError, ModelNotFoundError
from assay.models.manifest import folder_digests, read_manifest
from assay.models.resolve import DEFAULT_MODEL, EMBEDDED
from assay.registry.aliases import Aliases
from assay.registry.store import Store
from assay.schemas.refs import ModelRef
from saved_versions import FILES, save_version
from stores import MakeStore

pytestmark = pytest.mark.integration


def publish(store: Store, tmp_path: Path, number: int, **fields: Any) -> None:
    folder = tmp_path / "made" / str(number)
    save_version(folder, ModelRef("rm", number), **fields)
    store.publish(folder, ModelRef("rm", number))


def test_a_published_version_comes_back_byte_for_byte(store: Store, tmp_path: Path) -> None:
    ref = ModelRef("rm", 3)
    made = tmp_path / "made"
    manifest = save_version(made, ref, lineage_id="l", updates=12, status="candidate")
    assert store.publish(made, ref) == manifest
    assert store.names() == [DEFAULT_MODEL, "rm"]
    assert store.versions("rm") == [3]
    assert store.manifest(ref) == manifest
    found = store.fetch(ref)
    assert read_manifest(found) == manifest
    assert {path: (found / path).read_bytes() for path in FILES} == FILES


def test_publishing_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    ref = ModelRef("rm", 3)
    first = save_version(tmp_path / "first", ref, status="candidate", gate={"passed": True})
    save_version(tmp_path / "again", ref, created=1_800_000_000, status="rejected")
    store.publish(tmp_path / "first", ref)
    assert store.publish(tmp_path / "again", ref) == first
    assert store.manifest(ref) == first


@pytest.mark.parametrize(
    "other", [{"files": {"tokenizer.json": b"[]"}}, {"parent": "rm@1"}, {"max_tokens": 64}]
)
def test_another_version_under_the_same_number_is_refused(
    store: Store, tmp_path: Path, other: dict[str, Any]
) -> None:
    ref = ModelRef("rm", 3)
    first = save_version(tmp_path / "first", ref)
    save_version(tmp_path / "other", ref, **other)
    store.publish(tmp_path / "first", ref)
    with pytest.raises(ConflictError, match="rm@3"):
        store.publish(tmp_path / "other", ref)
    assert folder_digests(store.fetch(ref)) == first.files


def test_a_damaged_folder_is_not_published(store: Store, tmp_path: Path) -> None:
    ref = ModelRef("rm", 3)
    save_version(tmp_path / "made", ref)
    (tmp_path / "made" / "tokenizer.json").write_bytes(b"{ }")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json differs"):
        store.publish(tmp_path / "made", ref)
    (tmp_path / "made" / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is missing"):
        store.publish(tmp_path / "made", ref)
    with pytest.raises(ArtifactError, match="rm@3, not rm@4"):
        store.publish(tmp_path / "made", ModelRef("rm", 4))
    with pytest.raises(ArtifactError, match="no manifest"):
        store.publish(tmp_path, ref)
    assert store.versions("rm") == []


def test_of_many_that_publish_at_once_one_version_results(
    make_store: MakeStore, tmp_path: Path
) -> None:
    ref = ModelRef("rm", 3)
    save_version(tmp_path / "made", ref)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(make_store().publish, tmp_path / "made", ref) for _ in range(4)]
        manifests = [future.result() for future in futures]
    assert manifests == [manifests[0]] * 4
    assert make_store().fetch(ref).name == "3"


def test_of_two_that_publish_different_versions_at_once_one_is_refused(
    make_store: MakeStore, tmp_path: Path
) -> None:
    start = threading.Barrier(2)

    def publish_as(who: int, ref: ModelRef) -> bool:
        folder = tmp_path / "made" / str(who) / str(ref.version)
        save_version(folder, ref, {"tokenizer.json": bytes([who])}, updates=who)
        store = make_store()
        start.wait()
        try:
            return store.publish(folder, ref).updates == who
        except (ConflictError, ArtifactError):  # the latter: it read the other's files back
            return False

    with ThreadPoolExecutor(2) as pool:
        for number in range(1, 9):
            ref = ModelRef("rm", number)
            won = list(pool.map(publish_as, (1, 2), (ref, ref)))
            assert sum(won) <= 1
            if number in make_store().versions("rm"):
                assert make_store().manifest(ref).updates == won.index(True) + 1


def test_what_the_package_carries_is_in_every_store(store: Store) -> None:
    ref = ModelRef(DEFAULT_MODEL, 1)
    assert store.names() == [DEFAULT_MODEL]
    assert store.versions(DEFAULT_MODEL) == [1]
    assert store.manifest(ref).status == "released"
    assert store.fetch(ref) == EMBEDDED / DEFAULT_MODEL / "1"
    assert store.newest(DEFAULT_MODEL) == 1


def test_what_is_not_there_is_named(store: Store) -> None:
    assert store.versions("rm") == []
    assert store.newest("rm") is None
    assert store.aliases("rm") == Aliases()
    for ask in (store.manifest, store.fetch):
        with pytest.raises(ModelNotFoundError, match="rm@3"):
            ask(ModelRef("rm", 3))


@pytest.mark.parametrize("name", ["", "..", "../rm", "rm/3", "RM", "rm@3", ".rm"])
def test_a_name_cannot_lead_out_of_the_store(store: Store, name: str) -> None:
    for ask in (store.versions, store.aliases):
        with pytest.raises(InvalidInputError):
            ask(name)
    with pytest.raises(InvalidInputError):
        store.reserve(name, "x")


def test_the_newest_is_the_newest_that_was_released(store: Store, tmp_path: Path) -> None:
    for number, status in enumerate(("released", "released", "candidate", "rejected"), start=1):
        publish(store, tmp_path, number, status=status)
    assert store.newest("rm") == 2


def test_numbers_grow_and_an_identity_keeps_its_own(make_store: MakeStore) -> None:
    assert [make_store().reserve("rm", f"l:{n}") for n in (1, 2, 3)] == [1, 2, 3]
    assert make_store().reserve("rm", "l:2") == 2
    assert make_store().reserve("other", "l:2") == 1
    with pytest.raises(InvalidInputError):
        make_store().reserve("rm", "")


def test_numbers_start_behind_what_exists(store: Store, tmp_path: Path) -> None:
    assert store.reserve(DEFAULT_MODEL, "a") == 2
    publish(store, tmp_path, 5)
    assert store.reserve("rm", "a") == 6
    store.write_aliases("rm", Aliases(epoch=1, serving=9))
    assert store.reserve("rm", "b") == 10


def test_many_at_once_get_different_numbers(make_store: MakeStore) -> None:
    start = threading.Barrier(8)

    def reserve(number: int) -> int:
        store = make_store()
        start.wait()
        return store.reserve("rm", f"l:{number}")

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(reserve, range(8)))
    assert sorted(numbers) == list(range(1, 9))
    assert [make_store().reserve("rm", f"l:{n}") for n in range(8)] == numbers


def test_one_identity_from_many_sides_gets_one_number(make_store: MakeStore) -> None:
    start = threading.Barrier(8)

    def reserve(_: int) -> int:
        store = make_store()
        start.wait()
        return store.reserve("rm", "l:1")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(reserve, range(8))) == {1}


def test_aliases_move_forward_only(make_store: MakeStore) -> None:
    store = make_store()
    newer = Aliases(epoch=2, serving=7, previous=6)
    assert store.write_aliases("rm", Aliases(epoch=1, serving=6))
    assert store.write_aliases("rm", newer)
    assert store.write_aliases("rm", newer)
    assert not store.write_aliases("rm", Aliases(epoch=1, serving=6))
    assert not store.write_aliases("rm", Aliases(epoch=2, serving=8, previous=6))
    assert make_store().aliases("rm") == newer
    with_candidate = newer.with_candidate(8)
    assert store.write_aliases("rm", with_candidate)
    assert make_store().aliases("rm") == with_candidate


def test_concurrent_changes_of_aliases_lose_nothing(make_store: MakeStore) -> None:
    start = threading.Barrier(6)

    def count(_: int) -> None:
        store = make_store()
        start.wait()
        for _step in range(5):
            store.update_aliases("rm", lambda a: a.model_copy(update={"epoch": a.epoch + 1}))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(count, range(6)))
    assert make_store().aliases("rm").epoch == 30


def test_collecting_keeps_what_is_in_use(store: Store, tmp_path: Path) -> None:
    for number in range(1, 11):
        parent = {6: "rm@4", 7: "other@2", 9: "rm@8"}.get(number)
        publish(store, tmp_path, number, parent=parent)
    store.write_aliases("rm", Aliases(epoch=1, serving=6, previous=7, anchor=1))
    # 1 anchor, 6 serving, 7 previous, 4 parent of 6, 3 leased, 9 and 10 the newest; 8 is the
    # parent of 9, which has no alias, and 2 the parent of another model's version.
    assert store.collectable("rm", 2, {3}) == [2, 5, 8]
    assert store.collect("rm", 2, {3}) == [2, 5, 8]
    assert store.versions("rm") == [1, 3, 4, 6, 7, 9, 10]
    assert store.collect("rm", 2, {3}) == []
    with pytest.raises(ModelNotFoundError):
        store.manifest(ModelRef("rm", 2))
    with pytest.raises(InvalidInputError):
        store.collect("rm", 0, set())


def test_the_numbers_of_deleted_versions_stay_taken(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        publish(store, tmp_path, number)
    assert store.collect("rm", 1, set()) == [1]
    assert store.reserve("rm", "a") == 3
    assert store.collect("rm", 1, set()) == []
    publish(store, tmp_path, 3)
    assert store.collect("rm", 1, set()) == [2]
    assert store.reserve("rm", "b") == 4


def test_the_package_s_own_versions_are_never_collected(store: Store) -> None:
    store.write_aliases(DEFAULT_MODEL, Aliases(epoch=1, serving=1))
    assert store.collect(DEFAULT_MODEL, 1, set()) == []


def test_a_parent_that_was_deleted_does_not_stop_collecting(store: Store, tmp_path: Path) -> None:
    for number in (2, 3, 4):
        publish(store, tmp_path, number, parent=f"rm@{number - 1}")
    store.write_aliases("rm", Aliases(epoch=1, serving=2, previous=1))
    assert store.collect("rm", 1, set()) == [3]
