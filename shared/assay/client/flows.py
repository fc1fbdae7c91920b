"""The scoring calls, as generators that name the requests to send and get the replies: no I/O here.

A flow yields a list of requests that may run side by side, and is sent the bodies of their replies
in order, or is thrown the error of the first one that failed. Both clients run the same flows.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from assay.client.bodies import Items, build, dump, parse, plain
from assay.client.chunking import Chunk, join_groups, split, split_groups, texts_in
from assay.client.exchange import Request
from assay.errors import AssayError, ConflictError
from assay.schemas import scoring
from assay.schemas.refs import parse_pin, slug

Result = TypeVar("Result")
Scored = TypeVar(
    "Scored",
    scoring.ScoreResponse,
    scoring.StrengthResponse,
    scoring.ContrastiveResponse,
    scoring.BestOfNResponse,
)
Flow: TypeAlias = Generator[list[Request], list[bytes], Result]
Options: TypeAlias = Mapping[str, Any]


def score(groups: Items, texts: int, options: Options) -> Flow[scoring.ScoreResponse]:
    """`POST /v1/score`; a group that alone exceeds a request is cut."""
    body = build(scoring.ScoreRequest, groups=plain(groups), **options)
    chunks = split_groups(body.groups, texts)
    reply = yield from _one_version("/v1/score", body, "groups", chunks, scoring.ScoreResponse)
    return reply.model_copy(update={"results": join_groups(chunks, reply.results)})


def strength(pairs: Items, texts: int, options: Options) -> Flow[scoring.StrengthResponse]:
    """`POST /v1/strength`."""
    body = build(scoring.StrengthRequest, pairs=plain(pairs), **options)
    chunks = split(body.pairs, lambda _: 2, texts)
    return _one_version("/v1/strength", body, "pairs", chunks, scoring.StrengthResponse)


def contrastive(groups: Items, texts: int, options: Options) -> Flow[scoring.ContrastiveResponse]:
    """`POST /v1/contrastive`; groups stay whole: completions may be each other's baseline."""
    body = build(scoring.ContrastiveRequest, groups=plain(groups), **options)
    chunks = split(body.groups, texts_in, texts)
    return _one_version("/v1/contrastive", body, "groups", chunks, scoring.ContrastiveResponse)


def best_of_n(groups: Items, texts: int, options: Options) -> Flow[scoring.BestOfNResponse]:
    """`POST /v1/best-of-n`; groups stay whole: completions are compared."""
    body = build(scoring.BestOfNRequest, groups=plain(groups), **options)
    chunks = split(body.groups, texts_in, texts)
    return _one_version("/v1/best-of-n", body, "groups", chunks, scoring.BestOfNResponse)


def _one_version(
    path: str,
    body: scoring.ScoringOptions,
    field: str,
    chunks: Sequence[Chunk[Any]],
    reply_type: type[Scored],
) -> Flow[Scored]:
    """One reply out of those to all chunks.

    A pinned call sends them all at once. Otherwise the version that answers the first chunk is
    the one that the others ask for; if it leaves in between, the call starts over once.
    """
    ask = partial(_ask, path, body, field, reply_type)
    if len(chunks) == 1 or _is_version(body.model):
        return (yield from ask(chunks, body.model))
    first: Scored = yield from ask(chunks[:1], body.model)
    try:
        others: Scored = yield from ask(chunks[1:], first.model)
    except ConflictError:
        first = yield from ask(chunks[:1], body.model)
        others = yield from ask(chunks[1:], first.model)
    return first.model_copy(update={"results": [*first.results, *others.results]})


def _ask(
    path: str,
    body: scoring.ScoringOptions,
    field: str,
    reply_type: type[Scored],
    chunks: Sequence[Chunk[Any]],
    pin: str | None,
) -> Flow[Scored]:
    pinned = {} if pin is None else {"model": pin}
    parts = [body.model_copy(update={field: chunk.items, **pinned}) for chunk in chunks]
    bodies = yield [
        Request("POST", path, dump(part), first=chunk.first, skipped=chunk.skipped)
        for part, chunk in zip(parts, chunks, strict=True)
    ]
    replies = [parse(reply_type, reply) for reply in bodies]
    for reply, chunk in zip(replies, chunks, strict=True):
        _check(reply.model, len(reply.results), pin if _is_version(pin) else None, len(chunk.items))
    results = [result for reply in replies for result in reply.results]
    return replies[0].model_copy(update={"results": results})


def _is_version(pin: str | None) -> bool:
    return pin is not None and parse_pin(pin).version is not None


def _check(model: str, results: int, version: str | None, items: int) -> None:
    if version is not None and model != slug(version):
        raise AssayError(f"the server answered with {model}, and {slug(version)} was asked for")
    if results != items:
        raise AssayError(f"the server answered with {results} results to {items} items")
