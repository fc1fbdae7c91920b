"""Digests of preference pairs: which data a model saw, and whether it saw a pair at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import datasets

from reward_trainer.preferences.formats import COLUMNS, plain


def data_digest(table: datasets.Dataset) -> str:
    """SHA-256 of the pairs and their labels, whatever the order of the rows."""
    return _digest(json.dumps(row) for row in _rows(table))


def text_digest(table: datasets.Dataset) -> str:
    """SHA-256 of the pairs whatever the order of the rows and whichever side is chosen."""
    return _digest(pair_digests(table))


def pair_digests(table: datasets.Dataset) -> list[str]:
    """SHA-256 of each pair, blind to which completion is the chosen one, shape [rows]."""
    return [
        hashlib.sha256(json.dumps([prompt, *sorted(sides, key=json.dumps)]).encode()).hexdigest()
        for prompt, *sides in _rows(table)
    ]


def _rows(table: datasets.Dataset) -> Iterable[list[object]]:
    columns = (table[name] for name in COLUMNS)
    return ([plain(value) for value in row] for row in zip(*columns, strict=True))


def _digest(rows: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()
