"""Large calls as several requests: how the items are dealt out, and how replies become one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from assay.schemas.scoring import ContrastiveGroup, Group, GroupScores
from assay.schemas.storage import BaselineSet, Sample

Item = TypeVar("Item")
Components: TypeAlias = dict[str, list[float | None]]


@dataclass(frozen=True, slots=True)
class Chunk(Generic[Item]):
    """Consecutive items of a call that travel in one request.

    Attributes:
        items: the items; the first one may be the rest of a group that was cut.
        first: position of the first item in the call.
        skipped: completions of the first item that earlier chunks carry.
    """

    items: list[Item]
    first: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class _Piece(Generic[Item]):
    item: Item
    position: int
    skipped: int
    texts: int


def texts_in(item: Group | BaselineSet | Sample) -> int:
    """Completions that an item carries, those of its baseline included."""
    baselines = item.baselines if isinstance(item, ContrastiveGroup) else None
    return len(item.completions) + len(baselines or ())


def split(items: Sequence[Item], texts_in: Callable[[Item], int], limit: int) -> list[Chunk[Item]]:
    """Items whole and in order, at most `limit` texts a chunk; one with more goes alone."""
    return _pack((_Piece(item, at, 0, texts_in(item)) for at, item in enumerate(items)), limit)


def split_groups(groups: Sequence[Group], limit: int) -> list[Chunk[Group]]:
    """As `split`, but a group with more than `limit` completions is cut into several."""
    return _pack(
        (piece for at, group in enumerate(groups) for piece in _cut(group, at, limit)), limit
    )


def _cut(group: Group, position: int, limit: int) -> Iterator[_Piece[Group]]:
    for start in range(0, len(group.completions), limit):
        part = slice(start, start + limit)
        lists = {
            name: values[part]
            for name in ("completions", "labels", "finished")
            if (values := getattr(group, name)) is not None
        }
        piece = group.model_copy(update=lists)
        yield _Piece(piece, position, start, len(piece.completions))


def _pack(pieces: Iterable[_Piece[Item]], limit: int) -> list[Chunk[Item]]:
    chunks: list[Chunk[Item]] = []
    room = 0
    for piece in pieces:
        if not chunks or piece.texts > room:
            chunks.append(Chunk([], piece.position, piece.skipped))
            room = limit
        chunks[-1].items.append(piece.item)
        room -= piece.texts
    return chunks


def join_groups(
    chunks: Sequence[Chunk[Group]], results: Iterable[GroupScores]
) -> list[GroupScores]:
    """One result a group, the parts of groups that `split_groups` cut put together."""
    rests = (at == 0 and chunk.skipped > 0 for chunk in chunks for at in range(len(chunk.items)))
    joined: list[GroupScores] = []
    for is_rest, result in zip(rests, results, strict=True):
        if is_rest:
            joined[-1] = _joined(joined[-1], result)
        else:
            joined.append(result)
    return joined


def _joined(begin: GroupScores, rest: GroupScores) -> GroupScores:
    return GroupScores(
        scores=begin.scores + rest.scores,
        std=_concatenated(begin.std, rest.std),
        members=_concatenated(begin.members, rest.members),
        components=_joined_components(begin.components, rest.components),
        tokens=begin.tokens + rest.tokens,
        truncated=begin.truncated + rest.truncated,
    )


def _joined_components(begin: Components | None, rest: Components | None) -> Components | None:
    if begin is None or rest is None:
        return None
    return {name: [*values, *rest.get(name, ())] for name, values in begin.items()}


def _concatenated(begin: list[Item] | None, rest: list[Item] | None) -> list[Item] | None:
    return None if begin is None or rest is None else begin + rest
