"""What only a folder does: paths, damage, and what a crash may leave behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assay.errors import ArtifactError, DependencyError, StartupError
from assay.models.manifest import MANIFEST, folder_digests
from assay.registry.aliases import Aliases
from assay.registry.store import Store
from assay.schemas.refs import ModelRef
from saved_versions import save_version

REF = ModelRef("rm", 3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store's folder with `rm@3` in it."""
    save_version(tmp_path / "store" / "rm" / "3", REF)
    return tmp_path / "store"


def test_a_folder_and_its_url_are_the_same_store(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("HOME", str(root.parent))
    for url in (str(root), f"file://{root}", "store", "~/store", "file://~/store"):
        assert Store(url).fetch(REF) == root / "rm" / "3"


def test_an_unknown_kind_of_url_stops_the_start() -> None:
    with pytest.raises(StartupError, match="ftp://x"):
        Store("ftp://x")


def test_a_store_that_is_not_there_yet_is_empty_and_made_at_need(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "deep" / "store"))
    assert store.versions("rm") == []
    assert not (tmp_path / "deep").exists()
    assert store.reserve("rm", "x") == 1


def test_a_damaged_version_is_named(root: Path) -> None:
    store = Store(str(root))
    (root / "rm" / "3" / "tokenizer.json").write_text("damaged")
    with pytest.raises(ArtifactError, match=r"rm@3: tokenizer\.json differs"):
        store.fetch(REF)
    (root / "rm" / "3" / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"rm@3: tokenizer\.json is missing"):
        store.fetch(REF)
    (root / "rm" / "3" / MANIFEST).write_text('{"name": "rm"}')
    with pytest.raises(ArtifactError, match=r"rm/3/manifest\.json: version"):
        store.manifest(REF)


def test_a_version_under_another_number_is_refused(root: Path) -> None:
    (root / "rm" / "3").rename(root / "rm" / "4")
    with pytest.raises(ArtifactError, match="calls itself rm@3"):
        Store(str(root)).manifest(ModelRef("rm", 4))


def test_what_a_crash_leaves_is_no_version(root: Path, tmp_path: Path) -> None:
    save_version(root / "rm" / ".4.0123abcd.tmp", ModelRef("rm", 4))
    (root / "rm" / "5").mkdir()
    (root / "rm" / "5" / "tokenizer.json").write_text("half")
    store = Store(str(root))
    assert store.versions("rm") == [3]
    assert store.reserve("rm", "x") == 6
    manifest = save_version(tmp_path / "made", ModelRef("rm", 5))
    store.publish(tmp_path / "made", ModelRef("rm", 5))
    assert folder_digests(store.fetch(ModelRef("rm", 5))) == manifest.files


def test_publishing_from_the_store_s_own_folder_changes_nothing(root: Path) -> None:
    before = folder_digests(root / "rm" / "3")
    Store(str(root)).publish(root / "rm" / "3", REF)
    assert folder_digests(root / "rm" / "3") == before
    assert {path.name for path in (root / "rm").iterdir()} == {"3", ".lock"}


def test_a_number_claimed_before_a_crash_is_claimed_again(root: Path) -> None:
    (root / "rm" / "reserved").mkdir()
    (root / "rm" / "reserved" / "4").write_text("l:1")
    assert Store(str(root)).reserve("rm", "l:1") == 4
    assert Store(str(root)).reserve("rm", "l:2") == 5


def test_damaged_bookkeeping_is_named(root: Path) -> None:
    store = Store(str(root))
    store.reserve("rm", "x")
    (known,) = (path for path in (root / "rm" / "identities").iterdir() if path.name != ".lock")
    known.write_text("seven")
    with pytest.raises(ArtifactError, match="identities"):
        store.reserve("rm", "x")
    (root / "rm" / "aliases.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"aliases\.json is damaged"):
        store.aliases("rm")
    with pytest.raises(ArtifactError, match=r"aliases\.json is damaged"):
        store.write_aliases("rm", Aliases(epoch=9, serving=3))


def test_a_place_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    store = Store(str(tmp_path / "store"))
    with pytest.raises(DependencyError, match="cannot be used: Not a directory"):
        store.reserve("rm", "x")
    with pytest.raises(DependencyError, match="cannot be used"):
        store.write_aliases("rm", Aliases(epoch=1, serving=3))


def test_gc_takes_what_killed_writers_left_a_day_ago(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    fresh, old = tmp_path / "rm" / ".8.0a1b2c3d.tmp", tmp_path / "rm" / ".7.0a1b2c3d.tmp"
    note = tmp_path / "rm" / ".aliases.json.0a1b2c3d.tmp"
    for draft in (fresh, old):
        save_version(draft, ModelRef("rm", 7))
    note.write_text("{}")
    for draft in (old, note):
        os.utime(draft, (0, 0))

    store.collect("rm", keep=1, leased=set())

    assert (fresh.exists(), old.exists(), note.exists()) == (True, False, False)


def test_a_damaged_manifest_of_another_version_does_not_hide_the_newest_one(root: Path) -> None:
    store = Store(str(root))
    (root / "rm" / "4").mkdir()
    (root / "rm" / "4" / MANIFEST).write_text('{"name": "rm", "vers')

    assert store.newest("rm") == 3
