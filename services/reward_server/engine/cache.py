"""Scores of texts that were scored before, within a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

# Key, list node and array header of an entry beside its numbers; measured with sys.getsizeof.
_OVERHEAD_BYTES = 300


class ScoreCache:
    """Least recently used entries go first. Belongs to one version, so a key is a text's digest.

    Args:
        max_bytes: bound on memory; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._rows: OrderedDict[bytes, NDArray[np.float64]] = OrderedDict()

    def get(self, digest: bytes) -> NDArray[np.float64] | None:
        """The scores of a text, one per member, or None."""
        row = self._rows.get(digest)
        if row is not None:
            self._rows.move_to_end(digest)
        return row

    def put(self, digest: bytes, row: NDArray[np.float64]) -> None:
        """Remember the scores of a text."""
        size = row.nbytes + _OVERHEAD_BYTES
        if size > self._max_bytes or digest in self._rows:
            return
        self._rows[digest] = row.copy()  # a view would keep the scores of its whole batch
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, oldest = self._rows.popitem(last=False)
            self._bytes -= oldest.nbytes + _OVERHEAD_BYTES
