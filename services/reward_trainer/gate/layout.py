"""The gate's texts, each once, and where pairs, groups and the reference set find theirs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from assay.models.inputs import as_completion_text
from assay.schemas.text import Completion, Prompt, prompt_digest
from reward_trainer.fit.pairs import Pair, plain_json
from reward_trainer.gate.data import GateData, cluster_of

Rows = NDArray[np.intp]
_REFERENCE_TEXTS = 2000


@dataclass(frozen=True)
class Text:
    """One completion of a prompt; `key` is equal for texts that are scored alike."""

    prompt: Prompt
    completion: Completion
    key: str


@dataclass(frozen=True, eq=False)
class Layout:
    """Rows of `texts` by use.

    Attributes:
        texts: distinct.
        held: chosen and rejected of the held-out pairs, shape [pairs, 2].
        held_clusters: what the bootstrap draws, one per pair.
        groups: rows of each group.
        group_clusters: one per group.
        reference: the fixed set that scales are compared on: of the held-out texts those that come
            first by hash.
        probe: as `held`.
        probe_clusters: as `held_clusters`.
    """

    texts: Sequence[Text]
    held: Rows
    held_clusters: Sequence[str]
    groups: Sequence[Rows]
    group_clusters: Sequence[str]
    reference: Rows
    probe: Rows
    probe_clusters: Sequence[str]

    @classmethod
    def of(cls, data: GateData) -> Layout:
        """Number the texts."""
        index = _Index()
        held, probe = index.pairs(data.held), index.pairs(data.probe)
        reference = _reference(index.texts, np.unique(held))
        groups = [
            np.array([index.row(group.prompt, text) for text in group.completions])
            for group in data.groups
        ]
        return cls(
            texts=index.texts,
            held=held,
            held_clusters=[cluster_of(pair) for pair in data.held],
            groups=groups,
            group_clusters=[prompt_digest(group.prompt) for group in data.groups],
            reference=reference,
            probe=probe,
            probe_clusters=[cluster_of(pair) for pair in data.probe],
        )

    @cached_property
    def digest(self) -> str:
        """Equal for layouts of the same evidence."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(text.key.encode() + b"\n")
        for rows in (self.held, self.probe, *self.groups):
            digest.update(rows.tobytes() + b"|")
        return digest.hexdigest()

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """Characters of each completion, shape [texts]."""
        return np.array([len(as_completion_text(text.completion)) for text in self.texts], float)

    @cached_property
    def samples(self) -> Rows:
        """Rows of the texts of groups."""
        return np.unique(np.concatenate(self.groups)) if self.groups else np.empty(0, np.intp)

    @cached_property
    def prompts(self) -> list[Rows]:
        """Rows of each prompt's completions, prompts with one left out; without the probe."""
        rows: dict[str, set[int]] = {}
        for row in np.concatenate([self.held.ravel(), *self.groups]).tolist():
            rows.setdefault(prompt_digest(self.texts[row].prompt), set()).add(row)
        return [np.array(sorted(found)) for found in rows.values() if len(found) > 1]


class _Index:
    """Rows of texts, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.texts: list[Text] = []
        self._rows: dict[str, int] = {}

    def row(self, prompt: Prompt, completion: Completion) -> int:
        key = json.dumps([plain_json(prompt), plain_json(completion)], sort_keys=True)
        if key not in self._rows:
            self._rows[key] = len(self.texts)
            self.texts.append(Text(prompt, completion, key))
        return self._rows[key]

    def pairs(self, pairs: Sequence[Pair]) -> Rows:
        rows = [[self.row(p.prompt, p.chosen), self.row(p.prompt, p.rejected)] for p in pairs]
        return np.array(rows, dtype=np.intp).reshape(-1, 2)


def _reference(texts: Sequence[Text], rows: Rows) -> Rows:
    ordered = sorted(rows.tolist(), key=lambda row: _hash(texts[row].key))
    return np.array(sorted(ordered[:_REFERENCE_TEXTS]), dtype=np.intp)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
