"""What only a bucket does: the local cache, half an upload, a server that is not there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from assay.errors import ArtifactError, DependencyError, StartupError
from assay.models.manifest import MANIFEST, folder_digests
from assay.registry.aliases import Aliases
from assay.registry.store import Store
from assay.schemas.refs import ModelRef
from saved_versions import FILES, save_version

pytestmark = pytest.mark.integration

REF = ModelRef("rm", 3)
WEIGHTS = "members/member_0/adapter.safetensors"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(bucket: str, cache: Path, tmp_path: Path) -> Store:
    """A store with `rm@3` in it."""
    made = Store(bucket, cache)
    save_version(tmp_path / "made", REF)
    made.publish(tmp_path / "made", REF)
    return made


def objects(bucket: str) -> S3Store:
    return S3Store.from_url(bucket, client_options={"allow_http": True})


def test_a_copy_serves_while_the_bucket_is_out_of_reach(
    store: Store, bucket: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.fetch(REF)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert Store(bucket, cache).fetch(REF) == folder


def test_a_damaged_copy_is_fetched_again(store: Store) -> None:
    folder = store.fetch(REF)
    (folder / WEIGHTS).write_bytes(b"damaged")
    assert (store.fetch(REF) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    (folder / "tokenizer.json").unlink()
    assert folder_digests(store.fetch(REF)) == store.manifest(REF).files
    (folder / MANIFEST).write_text("{")
    assert store.fetch(REF) == folder


def test_damage_in_the_bucket_is_named(store: Store, bucket: str) -> None:
    obstore.put(objects(bucket), f"rm/3/{WEIGHTS}", b"damaged")
    with pytest.raises(ArtifactError, match=r"adapter\.safetensors differs"):
        store.fetch(REF)
    obstore.delete(objects(bucket), f"rm/3/{WEIGHTS}")
    with pytest.raises(ArtifactError, match=r"adapter\.safetensors is missing"):
        store.fetch(REF)
    obstore.put(objects(bucket), f"rm/3/{MANIFEST}", b"{")
    with pytest.raises(ArtifactError, match=r"rm/3/manifest\.json"):
        store.manifest(REF)


def test_copies_of_two_buckets_are_kept_apart(
    store: Store, bucket: str, cache: Path, tmp_path: Path
) -> None:
    other = Store(f"{bucket}/other", cache)
    save_version(tmp_path / "other", REF, {"tokenizer.json": b"other"})
    other.publish(tmp_path / "other", REF)
    assert (store.fetch(REF) / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]
    assert (other.fetch(REF) / "tokenizer.json").read_bytes() == b"other"


def test_many_fetch_at_once(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        folders = list(pool.map(lambda _: store.fetch(REF), range(6)))
    assert set(folders) == {folders[0]}
    assert [path.name for path in folders[0].parent.iterdir()] == ["3"]


def test_half_an_upload_is_no_version_and_may_be_done_again(
    store: Store, bucket: str, tmp_path: Path
) -> None:
    obstore.put(objects(bucket), "rm/4/tokenizer.json", b"half")
    assert store.versions("rm") == [3]
    assert store.reserve("rm", "another") == 5
    manifest = save_version(tmp_path / "four", ModelRef("rm", 4))
    store.publish(tmp_path / "four", ModelRef("rm", 4))
    assert folder_digests(store.fetch(ModelRef("rm", 4))) == manifest.files


def test_damaged_aliases_are_named(store: Store, bucket: str) -> None:
    obstore.put(objects(bucket), "rm/aliases.json", b'{"serving": "seven"}')
    with pytest.raises(ArtifactError, match=r"rm/aliases\.json is damaged"):
        store.aliases("rm")
    with pytest.raises(ArtifactError, match=r"rm/aliases\.json is damaged"):
        store.write_aliases("rm", Aliases(epoch=9, serving=3))


@pytest.mark.parametrize("ask", ["names", "versions", "reserve", "write_aliases", "publish"])
def test_a_bucket_that_does_not_exist(bucket: str, cache: Path, tmp_path: Path, ask: str) -> None:
    save_version(tmp_path / "made", REF)
    store = Store("s3://assay-no-such-bucket", cache)
    asks: dict[str, Callable[[], object]] = {
        "names": store.names,
        "versions": lambda: store.versions("rm"),
        "reserve": lambda: store.reserve("rm", "x"),
        "write_aliases": lambda: store.write_aliases("rm", Aliases(epoch=1, serving=3)),
        "publish": lambda: store.publish(tmp_path / "made", REF),
    }
    with pytest.raises(DependencyError, match="assay-no-such-bucket cannot be used"):
        asks[ask]()


def test_a_server_that_does_not_answer(
    bucket: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(DependencyError, match="cannot be used") as caught:
        Store(bucket, cache).fetch(REF)
    assert caught.value.retry_after_s


def test_a_cache_that_cannot_be_written(store: Store, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DependencyError, match="cannot be used"):
        Store(bucket, tmp_path / "file").fetch(REF)


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "gopher://bucket", "http://bucket/x"])
def test_a_url_that_is_no_store(url: str, cache: Path) -> None:
    with pytest.raises(StartupError, match="store"):
        Store(url, cache)


def test_without_the_extra_it_says_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StartupError, match=r"assay-rm\[s3\]"):
        Store("s3://bucket", cache)


def test_gc_takes_copies_of_what_is_gone(store: Store, cache: Path, tmp_path: Path) -> None:
    for number in (4, 5):
        save_version(tmp_path / str(number), ModelRef("rm", number))
        store.publish(tmp_path / str(number), ModelRef("rm", number))
    copies = [store.fetch(ModelRef("rm", number)) for number in (4, 5)]

    store.collect("rm", keep=1, leased=set())

    assert [copy.exists() for copy in copies] == [False, True]
