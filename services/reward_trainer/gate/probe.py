"""The probe: labelled samples of recent policies, kept in the store as `NAME/probe.jsonl`.

It lies beside the versions, so that a trainer on another machine judges by the same one. Its lines
are preference pairs that any of our commands reads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import datasets

from assay.errors import DataError
from assay.registry.store import Store
from reward_trainer.fit.pairs import Pair
from reward_trainer.preferences.formats import COLUMNS, pair_of, plain
from reward_trainer.preferences.roots import as_prompt, root_of

FILE = "probe.jsonl"
_KEPT = (*COLUMNS, "policy")
Row = dict[str, Any]


class Probe:
    """The labelled samples of one model.

    Every method raises DependencyError while the store cannot be used.

    Args:
        store: of all models.
        name: of the model.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    def rows(self) -> list[Row]:
        """The lines as they are, oldest first; none if there is no probe.

        Raises:
            DataError: the file is no text, or a line is no pair; the line is named.
        """
        return self._parsed(self._store.read_note(self._name, FILE))

    def pairs(self) -> list[Pair]:
        """The labelled pairs, with their conversation roots.

        Raises:
            DataError: as in `rows`.
        """
        return [_pair(row, number) for number, row in enumerate(self.rows(), start=1)]

    def add(self, table: datasets.Dataset) -> int:
        """Add pairs; those that are there under the same label are left out.

        Args:
            table: as `read_preferences` gives it; `policy` is kept if there is such a column.

        Returns:
            How many were added.

        Raises:
            DataError: a pair is there under the opposite label, and none was added.
        """
        new, added = list(_rows_of(table)), 0

        def extend(data: bytes | None) -> bytes | None:
            nonlocal added
            rows = self._parsed(data)
            fresh = _unknown(new, rows)
            added = len(fresh)
            return _encoded([*rows, *fresh]) if fresh else None

        self._store.change_note(self._name, FILE, extend)
        return added

    def clear(self) -> int:
        """Forget all pairs.

        Returns:
            How many there were.

        Raises:
            DataError: as in `rows`.
        """
        count = 0

        def empty(data: bytes | None) -> bytes | None:
            nonlocal count
            count = len(self._parsed(data))
            return b"" if count else None

        self._store.change_note(self._name, FILE, empty)
        return count

    def _parsed(self, data: bytes | None) -> list[Row]:
        path = f"{self._store.url}/{self._name}/{FILE}"
        try:
            lines = (data or b"").decode().splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        return [_row(line, f"{path}, line {n}") for n, line in enumerate(lines, start=1)]


def _unknown(new: Sequence[Row], known: Sequence[Row]) -> list[Row]:
    """Those of the new rows that are not there yet, each once.

    Raises:
        DataError: one is there under the opposite label.
    """
    labels, fresh = {_texts(row): row for row in known}, []
    for row in new:
        there = labels.setdefault(_texts(row), row)
        if there["chosen"] != row["chosen"]:
            raise DataError(
                "a pair has the opposite label of one that is in the probe, or of another row "
                "of this table: `assay probe list` shows them, `assay probe clear` forgets them"
            )
        if there is row:
            fresh.append(row)
    return fresh


def _encoded(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object")
    return {**row, **pair_of(row, where)._asdict()}


def _pair(row: Row, number: int) -> Pair:
    prompt, chosen, rejected = (as_prompt(row[name]) for name in COLUMNS)
    return Pair("probe", number, root_of(row["prompt"]), prompt, chosen, rejected)


def _rows_of(table: datasets.Dataset) -> Iterator[Row]:
    names = [name for name in _KEPT if name in table.column_names]
    for values in zip(*(table[name] for name in names), strict=True):
        row = {name: plain(value) for name, value in zip(names, values, strict=True)}
        yield {**row, "added": int(time.time())}


def _texts(row: Row) -> str:
    """Equal for rows of the same texts, whichever is chosen."""
    prompt, *sides = (json.dumps(row[name], sort_keys=True) for name in COLUMNS)
    return "\n".join([prompt, *sorted(sides)])
