"""The calls that do not score: baselines, samples, models, probes; flows as in `flows`."""

from __future__ import annotations

import re
import uuid
from urllib.parse import quote, urlencode

from assay.client.bodies import Items, build, dump, parse, plain
from assay.client.chunking import split, texts_in
from assay.client.exchange import Request
from assay.client.flows import Flow
from assay.errors import (
    DeadlineExceededError,
    InvalidInputError,
    ServerUnreachableError,
    UnavailableError,
)
from assay.schemas import storage
from assay.schemas.models import ModelCard, ModelList
from assay.schemas.promotions import PromotionReply, SwapWhen
from assay.schemas.refs import parse_pin, slug
from assay.schemas.text import Prompt


def put_baselines(items: Items, texts: int) -> Flow[storage.PutBaselinesResponse]:
    """`PUT /v1/baselines`, in order: of two sets for one prompt and policy the later one stays."""
    body = build(storage.PutBaselinesRequest, items=plain(items))
    stored = 0
    for chunk in split(body.items, texts_in, texts):
        part = dump(storage.PutBaselinesRequest(items=chunk.items))
        (reply,) = yield [Request("PUT", "/v1/baselines", part, first=chunk.first)]
        stored += parse(storage.PutBaselinesResponse, reply).stored
    return storage.PutBaselinesResponse(stored=stored)


def post_samples(items: Items, key: str | None, texts: int) -> Flow[storage.PostSamplesResponse]:
    """`POST /v1/samples`, in order: the trainer follows the order of the stream."""
    body = build(storage.PostSamplesRequest, items=plain(items))
    key = uuid.uuid4().hex if key is None else _checked(key)
    ids: list[str] = []
    for number, chunk in enumerate(split(body.items, texts_in, texts)):
        part = dump(storage.PostSamplesRequest(items=chunk.items))
        headers = (("Idempotency-Key", f"{key}-{number}"),)
        (reply,) = yield [Request("POST", "/v1/samples", part, headers, first=chunk.first)]
        ids += parse(storage.PostSamplesResponse, reply).ids
    return storage.PostSamplesResponse(accepted=len(ids), ids=ids)


def _checked(key: str) -> str:
    if not re.fullmatch(r"[!-~]{1,200}", key):
        raise InvalidInputError("an idempotency key is 1 to 200 ASCII characters without spaces")
    return key


def lookup_baselines(prompt: Prompt, policy: str | None) -> Flow[storage.LookupBaselinesResponse]:
    """`POST /v1/baselines/lookup`."""
    body = build(storage.BaselineQuery, prompt=prompt, policy=policy)
    (reply,) = yield [Request("POST", "/v1/baselines/lookup", dump(body))]
    return parse(storage.LookupBaselinesResponse, reply)


def delete_baselines(prompt: Prompt, policy: str | None) -> Flow[storage.DeleteBaselinesResponse]:
    """`POST /v1/baselines/delete`."""
    body = build(storage.BaselineQuery, prompt=prompt, policy=policy)
    (reply,) = yield [Request("POST", "/v1/baselines/delete", dump(body))]
    return parse(storage.DeleteBaselinesResponse, reply)


def models() -> Flow[ModelList]:
    """`GET /v1/models`."""
    (reply,) = yield [Request("GET", "/v1/models")]
    return parse(ModelList, reply)


def model(name: str) -> Flow[ModelCard]:
    """`GET /v1/models/NAME`."""
    parse_pin(name)
    (reply,) = yield [Request("GET", f"/v1/models/{slug(name)}")]
    return parse(ModelCard, reply)


def promote(
    model: str, wait_s: float, swap_when: SwapWhen | None, *, force: bool
) -> Flow[PromotionReply]:
    """`POST /v1/models/name@7/promote`; never sent twice, as the second would be refused."""
    return _move(f"{slug(_version(model))}/promote", wait_s, swap_when, force=force)


def rollback(name: str, wait_s: float, swap_when: SwapWhen | None) -> Flow[PromotionReply]:
    """`POST /v1/models/NAME/rollback`; never sent twice, as the second would go back again."""
    return _move(f"{parse_pin(name).name}/rollback", wait_s, swap_when)


def _version(model: str) -> str:
    if parse_pin(model).version is None:
        raise InvalidInputError(f"name the version to promote: {model}@7, say")
    return model


def _move(
    what: str, wait_s: float, swap_when: SwapWhen | None, *, force: bool = False
) -> Flow[PromotionReply]:
    asked = {"swap_when": swap_when, "force": "true" if force else None}
    query = urlencode({"wait_s": f"{wait_s:g}", **{k: v for k, v in asked.items() if v}})
    (reply,) = yield [Request("POST", f"/v1/models/{what}?{query}", once=True)]
    return parse(PromotionReply, reply)


def promotion(identifier: str) -> Flow[PromotionReply]:
    """`GET /v1/promotions/ID`."""
    (reply,) = yield [Request("GET", f"/v1/promotions/{quote(identifier, safe='')}")]
    return parse(PromotionReply, reply)


def probe(path: str) -> Flow[bool]:
    """`GET /healthz` or `/readyz`, once: whether the answer is yes."""
    try:
        yield [Request("GET", path, once=True)]
    except (UnavailableError, ServerUnreachableError, DeadlineExceededError):
        return False
    return True
