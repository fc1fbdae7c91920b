from __future__ import annotations

import numpy as np

from reward_server.engine.cache import ScoreCache

ROW = np.zeros(5)


def test_an_entry_comes_back() -> None:
    cache = ScoreCache(10_000)
    cache.put(b"a", np.array([1.0, 2.0]))
    row = cache.get(b"a")
    assert row is not None
    assert row.tolist() == [1.0, 2.0]
    assert cache.get(b"b") is None


def test_the_least_recently_used_entry_goes_first() -> None:
    cache = ScoreCache(3 * (ROW.nbytes + 300))
    for name in (b"a", b"b", b"c"):
        cache.put(name, ROW)
    cache.get(b"a")
    cache.put(b"d", ROW)
    assert [cache.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]


def test_no_bytes_means_no_cache() -> None:
    cache = ScoreCache(0)
    cache.put(b"a", ROW)
    assert cache.get(b"a") is None


def test_an_entry_does_not_keep_the_scores_of_its_batch_alive() -> None:
    cache = ScoreCache(10_000)
    cache.put(b"a", np.zeros((1000, 5))[0])
    row = cache.get(b"a")
    assert row is not None
    assert row.base is None
