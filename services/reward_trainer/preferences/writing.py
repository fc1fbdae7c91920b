"""Writing tables and files whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import datasets

from assay.errors import DataError
from reward_trainer.preferences.formats import COLUMNS, plain

_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


def write_preferences(table: datasets.Dataset, path: Path) -> None:
    """Write a table under a temporary name, then rename it; an old file is replaced.

    Raises:
        DataError: the suffix is none of `.jsonl`, `.jsonl.gz`, `.parquet`, a column does not fit
            the format, or the file cannot be written (a full disk, say). Nothing is left behind.
    """
    suffix = check_suffix(path)
    writers: dict[str, Callable[[BinaryIO], None]] = {
        ".parquet": lambda file: table.to_parquet(file),
        ".jsonl": lambda file: _write_lines(table, file),
        ".jsonl.gz": lambda file: _write_compressed(table, file),
    }
    with replacing(path) as file:
        writers[suffix](file)


def check_suffix(path: Path) -> str:
    """The suffix that says how a table is written.

    Raises:
        DataError: it is none of `.jsonl`, `.jsonl.gz`, `.parquet`.
    """
    suffix = next((suffix for suffix in _SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"{path}: a table is written to {', '.join(_SUFFIXES)}")
    return suffix


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is complete and on the disk.

    Raises:
        DataError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_lines(table: datasets.Dataset, file: BinaryIO) -> None:
    for row in table:
        file.write(_line(row))


def _write_compressed(table: datasets.Dataset, file: BinaryIO) -> None:
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as lines:
        for row in table:
            lines.write(_line(row))


def _line(row: dict[str, Any]) -> bytes:
    row = row | {name: plain(row[name]) for name in COLUMNS}
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except TypeError as error:
        raise DataError(f"a column does not fit JSON ({error}): write a .parquet file") from error
