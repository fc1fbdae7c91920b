"""The calls, as generators that name the requests to send and get their replies: no I/O here.

A flow yields a list of requests that may run side by side, and is sent their replies in order.
Both clients run the same flows.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from assay.client.exchange import Request
from assay.errors import AssayError, ConflictError, FieldError, InvalidInputError
from assay.schemas import scoring, storage
from assay.schemas.models import ModelCard, ModelList

Model = TypeVar("Model", bound=BaseModel)
Flow = Generator[list[Request], list[httpx.Response], Model]
Items = Iterable[BaseModel | Mapping[str, Any]]

# Sizes of an item: how many texts it makes the server score.
_SIZES = {
    "/v1/score": lambda group: len(group["completions"]),
    "/v1/best-of-n": lambda group: len(group["completions"]),
    "/v1/contrastive": lambda group: len(group["completions"]) + len(group.get("baselines") or ()),
    "/v1/strength": lambda _: 2,
}


def score(groups: Items, texts: int, options: Mapping[str, Any]) -> Flow[scoring.ScoreResponse]:
    """`POST /v1/score`."""
    body = build(scoring.ScoreRequest, groups=plain(groups), **options)
    return _scoring("/v1/score", body, "groups", scoring.ScoreResponse, texts)


def strength(
    pairs: Items, texts: int, options: Mapping[str, Any]
) -> Flow[scoring.StrengthResponse]:
    """`POST /v1/strength`."""
    body = build(scoring.StrengthRequest, pairs=plain(pairs), **options)
    return _scoring("/v1/strength", body, "pairs", scoring.StrengthResponse, texts)


def contrastive(
    groups: Items, texts: int, options: Mapping[str, Any]
) -> Flow[scoring.ContrastiveResponse]:
    """`POST /v1/contrastive`."""
    body = build(scoring.ContrastiveRequest, groups=plain(groups), **options)
    return _scoring("/v1/contrastive", body, "groups", scoring.ContrastiveResponse, texts)


def best_of_n(
    groups: Items, texts: int, options: Mapping[str, Any]
) -> Flow[scoring.BestOfNResponse]:
    """`POST /v1/best-of-n`."""
    body = build(scoring.BestOfNRequest, groups=plain(groups), **options)
    return _scoring("/v1/best-of-n", body, "groups", scoring.BestOfNResponse, texts)


def put_baselines(items: Items) -> Flow[storage.PutBaselinesResponse]:
    """`PUT /v1/baselines`."""
    body = build(storage.PutBaselinesRequest, items=plain(items))
    return _single(Request("PUT", "/v1/baselines", dump(body)), storage.PutBaselinesResponse)


def lookup_baselines(prompt: Any, policy: str | None) -> Flow[storage.LookupBaselinesResponse]:
    """`POST /v1/baselines/lookup`."""
    body = build(storage.BaselineQuery, prompt=prompt, policy=policy)
    request = Request("POST", "/v1/baselines/lookup", dump(body))
    return _single(request, storage.LookupBaselinesResponse)


def delete_baselines(prompt: Any, policy: str | None) -> Flow[storage.DeleteBaselinesResponse]:
    """`POST /v1/baselines/delete`."""
    body = build(storage.BaselineQuery, prompt=prompt, policy=policy)
    request = Request("POST", "/v1/baselines/delete", dump(body))
    return _single(request, storage.DeleteBaselinesResponse)


def post_samples(items: Items, idempotency_key: str | None) -> Flow[storage.PostSamplesResponse]:
    """`POST /v1/samples`, with an idempotency key, so that a retry stores once."""
    body = build(storage.PostSamplesRequest, items=plain(items))
    key = ("Idempotency-Key", idempotency_key or uuid.uuid4().hex)
    request = Request("POST", "/v1/samples", dump(body), headers=(key,))
    return _single(request, storage.PostSamplesResponse)


def models() -> Flow[ModelList]:
    """`GET /v1/models`."""
    return _single(Request("GET", "/v1/models"), ModelList)


def model(name: str) -> Flow[ModelCard]:
    """`GET /v1/models/NAME`."""
    return _single(Request("GET", f"/v1/models/{name}"), ModelCard)


def _single(request: Request, reply: type[Model]) -> Flow[Model]:
    (response,) = yield [request]
    return parse(reply, response)


def _scoring(path: str, body: BaseModel, field: str, reply: type[Model], texts: int) -> Flow[Model]:
    """Cut into requests, all answered by one version: the one that answers the first of them."""
    requests = [
        Request("POST", path, dump(body.model_copy(update={field: chunk})))
        for chunk in chunks(getattr(body, field), _SIZES[path], texts)
    ]
    try:
        return (yield from _same_version(requests, reply))
    except ConflictError:
        if len(requests) == 1 or getattr(body, "model", None):
            raise
    # The version left between two requests: its successor answers all of them.
    return (yield from _same_version(requests, reply))


def _same_version(requests: Sequence[Request], reply: type[Model]) -> Flow[Model]:
    (first,) = yield [requests[0]]
    merged = parse(reply, first)
    if len(requests) == 1:
        return merged
    version: str = merged.model_dump()["model"]
    others = yield [request.pinned(version) for request in requests[1:]]
    results = [*_results(merged)]
    for response in others:
        results += _results(parse(reply, response))
    return merged.model_copy(update={"results": results})


def _results(reply: BaseModel) -> list[Any]:
    results: list[Any] = getattr(reply, "results")  # noqa: B009 - every scoring reply has them
    return results


def chunks(items: Sequence[Any], size_of: Any, texts: int) -> Iterator[list[Any]]:
    """Cut items into lists of at most `texts` texts; an item is never cut, so one may be larger."""
    chunk: list[Any] = []
    used = 0
    for item in items:
        size = size_of(item.model_dump(include={"completions", "baselines"}))
        if chunk and used + size > texts:
            yield chunk
            chunk, used = [], 0
        chunk.append(item)
        used += size
    yield chunk


def plain(items: Items) -> list[Any]:
    """Items as plain data."""
    return [
        item.model_dump(exclude_unset=True) if isinstance(item, BaseModel) else dict(item)
        for item in items
    ]


def build(request: type[Model], **fields: Any) -> Model:
    """A validated request.

    Raises:
        InvalidInputError: a field is wrong; texts are never in the message.
    """
    try:
        return request(**fields)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        found = tuple(
            FieldError(".".join(str(part) for part in fault["loc"]), fault["msg"])
            for fault in faults
        )
        raise InvalidInputError(f"{found[0].path}: {found[0].message}", fields=found) from None


def dump(body: BaseModel) -> bytes:
    """A request body."""
    try:
        return body.model_dump_json(exclude_unset=True).encode()
    except ValueError:
        raise InvalidInputError("a text holds lone surrogates, which JSON cannot carry") from None


def parse(reply: type[Model], response: httpx.Response) -> Model:
    """A reply body.

    Raises:
        AssayError: the reply is not what the API promises.
    """
    try:
        return reply.model_validate_json(response.content)
    except ValidationError:
        raise AssayError(
            f"the answer of {response.request.url.path} is not a {reply.__name__}; is it Assay?"
        ) from None
