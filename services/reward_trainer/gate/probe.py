"""The probe: labelled samples of recent policies, kept in the store as `NAME/probe.jsonl`.

It lies beside the versions, so that a trainer on another machine judges by the same one. Its lines
are preference pairs that any of our commands reads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import fsspec

from assay.errors import DataError
from reward_trainer.fit.pairs import Pair
from reward_trainer.preferences.formats import COLUMNS, pair_of, plain
from reward_trainer.preferences.roots import as_prompt, root_of
from reward_trainer.preferences.writing import replacing

FILE = "probe.jsonl"
_KEPT = (*COLUMNS, "policy")
Row = dict[str, Any]


class Probe:
    """The labelled samples of one model.

    Args:
        store: folder or URL of all models.
        name: of the model.
    """

    def __init__(self, store: str, name: str) -> None:
        self._path = f"{store.rstrip('/')}/{name}/{FILE}"
        with self._named("opened"):
            self._files, self._inner = fsspec.core.url_to_fs(self._path)

    def rows(self) -> list[Row]:
        """The lines as they are, oldest first; none if there is no probe.

        Raises:
            DataError: the file cannot be read, or a line is no pair; the line is named.
        """
        with self._named("read"):
            if not self._files.exists(self._inner):
                return []
            lines = self._files.cat_file(self._inner).decode().splitlines()
        return [_row(line, f"{self._path}, line {n}") for n, line in enumerate(lines, start=1)]

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
            DataError: a pair is there under the opposite label, or the file cannot be written.
        """
        rows = self.rows()
        labels = {_texts(row): row for row in rows}
        added = 0
        for row in _rows_of(table):
            known = labels.setdefault(_texts(row), row)
            if known["chosen"] != row["chosen"]:
                raise DataError(
                    "a pair has the opposite label of one that is in the probe, or of another row "
                    "of this table: `assay probe list` shows them, `assay probe clear` forgets them"
                )
            if known is row:
                rows.append(row)
                added += 1
        if added:
            self._write(rows)
        return added

    def clear(self) -> int:
        """Forget all pairs.

        Returns:
            How many there were.

        Raises:
            DataError: the file cannot be read or removed.
        """
        count = len(self.rows())
        if count:
            with self._named("removed"):
                self._files.rm_file(self._inner)
        return count

    def _write(self, rows: Sequence[Row]) -> None:
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        if "file" in self._files.protocol:
            with replacing(Path(self._inner)) as file:
                file.write(data)
            return
        with self._named("written"):
            self._files.pipe_file(self._inner, data)  # an object appears whole or not at all

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ImportError, ValueError) as error:
            raise DataError(f"{self._path} cannot be {what}: {error}") from error


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
