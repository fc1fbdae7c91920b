"""What every compatible route calls: texts in, one value per text out, by the native path."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.errors import (
    InvalidInputError,
    MalformedRequestError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    UnavailableError,
)
from assay.rewards.aggregate import check_aggregate
from assay.schemas import boundary
from assay.schemas.refs import parse_pin
from assay.schemas.scoring import Group
from reward_server.compat.baselines import (
    Baselines,
    baseline_texts,
    baselines_at_hand,
    gains_over,
    has_prompt,
    needed_baselines,
    offers_contrastive,
)
from reward_server.compat.query import Asked, RewardOptions, read_query
from reward_server.compat.values import Output, Value, make_outputs
from reward_server.routes.dependencies import answering
from reward_server.scoring import Encoding, Scored, Text, check_count

if TYPE_CHECKING:
    from fastapi import Request

    from assay.models.scorer import Truncate
    from assay.schemas.text import Completion, Prompt
    from reward_server.runtime import Runtime
    from reward_server.settings import RewardMode
    from reward_server.versions import Resident

_TAKEN_OFF = {"lcb": "uncertainty", "contrastive": "baseline"}
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_LONG_CHARS = 100_000  # reading more than this would hold up other requests


class Input(NamedTuple):
    """One thing to score: a full text, or a prompt with its completion, or token ids.

    Attributes:
        path: where it stands in the body, for errors.
        text: prompt and completion in one; with `prompt`, what follows that is the completion.
        prompt: messages, or a text that may be in a template.
        completion: what answers it.
        ids: token ids, or a text with its special tokens: no template, no BOS added, no
            baseline, nothing for the tap.
        label: for rules.
        finished: False = the completion was cut by the token limit.
    """

    path: str
    text: str | None = None
    prompt: Prompt | None = None
    completion: Completion | None = None
    ids: str | tuple[int, ...] | None = None
    label: Any = None
    finished: bool = True


class Answer(NamedTuple):
    """The values of all inputs, in their order, by one version.

    Attributes:
        model: `name@7`.
        mode: which value is the reward.
    """

    model: str
    mode: RewardMode
    outputs: list[Output]

    def parts(self, value: Value) -> dict[str, float]:
        """What a reward is made of: parts that sum to it."""
        parts = dict(value.components or {"score": value.score})
        if self.mode != "score":
            parts[_TAKEN_OFF[self.mode]] = value.reward - sum(parts.values())
        return parts

    @property
    def version(self) -> int:
        """The number in `model`."""
        return int(self.model.rpartition("@")[2])

    @property
    def tokens(self) -> int:
        """Tokens of all inputs."""
        return sum(output.tokens for output in self.outputs)

    def values(self) -> list[Value]:
        """The values, for a system that has no word for "no score".

        Raises:
            UnavailableError: a rule gave none. Its client takes the 503 for a missing reward.
        """
        values = [output.value for output in self.outputs if output.value]
        if len(values) < len(self.outputs):
            raise UnavailableError("a rule gave no score, and this format cannot say so")
        return values


async def answer(
    runtime: Runtime,
    request: Request,
    inputs: Sequence[Input],
    *,
    model: str | None = None,
    truncate: Truncate = "left",
    max_tokens: int | None = None,
    with_contrastive: bool = False,
    own: Collection[str] = (),
) -> Answer:
    """Score the inputs of one request by one version, and offer them to the tap.

    Args:
        runtime: the replica.
        request: its pins, headers and query.
        inputs: any number; none gives no outputs.
        model: what the body says of the model: a name, a version, or what the server loaded.
        truncate: what to do with an input that is too long.
        max_tokens: longest input, if below the model's own limit.
        with_contrastive: True = the format has a place for the contrastive reward beside another
            one. It is left out while Redis does not answer.
        own: query parameters that the route itself reads.

    Raises:
        NotFoundError: the server serves another model.
        UnavailableError: no room within `compat_wait_s`, or a baseline is missing.
        InvalidInputError: an input or the query is wrong; it is named.
        DeadlineExceededError, ScoringError, PayloadTooLargeError: see `ScoringPath.score`.
    """
    asked = read_query(request, own)
    options = asked.options(runtime.settings.reward, _pin(runtime, model))
    _check_one_version([*request.state.pins, options.model])
    encoding = Encoding(truncate=truncate, max_tokens=max_tokens)
    check_count(len(inputs), runtime.settings)
    texts = await _texts(inputs, runtime.settings.text_rules, encoding)
    prompts = [text.prompt for text in texts if has_prompt(text)]
    with answering(runtime, request, options, prompts) as resident:
        _check_aggregate(resident, options)
        outputs: list[Output] = []
        if texts:
            outputs = await _outputs(runtime, resident, texts, options, with_contrastive)
    # What has no score is refused or asked for again: it is no sample yet.
    _tap(runtime, [text for text, out in zip(texts, outputs, strict=True) if out.value], asked)
    request.state.truncated = sum(output.truncated for output in outputs)  # for a header
    return Answer(resident.card.id, options.reward, outputs)


def _pin(runtime: Runtime, model: str | None) -> str | None:
    """What a body's `model` asks for: a version, or None for the serving one.

    Raises:
        NotFoundError: it is neither the served name nor what the operator had loaded.
    """
    settings = runtime.settings
    if not model or model.rstrip("/") == settings.model.rstrip("/"):
        return None
    try:
        if parse_pin(model).name == runtime.versions.name:
            return model
    except InvalidInputError:
        pass  # a path, say
    if settings.compat_any_model:
        return None
    raise NotFoundError(
        f"this server serves {runtime.versions.name}, and the body names another model: name this "
        "one, or start the server with ASSAY_COMPAT_ANY_MODEL=1"
    )


def _check_one_version(pins: Sequence[str | None]) -> None:
    """Trying again would not help a client that contradicts itself, as a 503 says it would."""
    versions = {parse_pin(pin).version for pin in pins if pin} - {None}
    if len(versions) > 1:
        raise MalformedRequestError("the request is pinned to two versions at once")


def _check_aggregate(resident: Resident, options: RewardOptions) -> None:
    if options.reward == "contrastive":  # offsets of members cancel
        check_aggregate(options.aggregate, resident.card.assay.members, calibrated=True)
    else:
        resident.check_aggregate(options)


async def _texts(inputs: Sequence[Input], rules: boundary.Rules, encoding: Encoding) -> list[Text]:
    def read() -> list[Text]:
        return [_text(entry, rules, encoding) for entry in inputs]

    parts = (part for entry in inputs for part in (entry.text, entry.prompt, entry.completion))
    chars = sum(len(part) for part in parts if isinstance(part, str))
    return await asyncio.to_thread(read) if chars > _LONG_CHARS else read()


def _text(entry: Input, rules: boundary.Rules, encoding: Encoding) -> Text:
    if entry.ids is not None:
        encoding = encoding._replace(ids=entry.ids)
        return Text("", "", entry.path, entry.finished, entry.label, encoding)
    reading = _read(entry, rules)
    return Text(
        reading.prompt,
        reading.completion,
        entry.path,
        entry.finished and reading.finished,
        entry.label,
        encoding._replace(raw=reading.raw),
    )


def _read(entry: Input, rules: boundary.Rules) -> boundary.Reading:
    prompt, completion = entry.prompt, entry.completion
    if entry.text is not None:
        if isinstance(prompt, str) and prompt:
            return boundary.read_after(prompt, entry.text, rules)
        return boundary.read(entry.text, rules)
    assert prompt is not None  # noqa: S101 - an input is a text, ids, or both of these
    assert completion is not None  # noqa: S101
    return boundary.read_apart(prompt, completion, rules)


async def _outputs(
    runtime: Runtime,
    resident: Resident,
    texts: Sequence[Text],
    options: RewardOptions,
    with_contrastive: bool,
) -> list[Output]:
    is_contrastive = options.reward == "contrastive"
    baselines: Baselines = {}
    if is_contrastive:
        baselines = await needed_baselines(runtime, texts, options.policy)
    elif with_contrastive and offers_contrastive(runtime):
        baselines = await baselines_at_hand(runtime, texts, options.policy)
    wait_s = runtime.settings.compat_wait_s
    try:
        scored = await _score(
            resident, [*texts, *baseline_texts(texts, baselines)], options, wait_s
        )
    except (InvalidInputError, MalformedRequestError, PayloadTooLargeError):
        if is_contrastive or not baselines:
            raise
        baselines = {}  # one of them may be the reason
        scored = await _score(resident, texts, options, wait_s)
    gains = gains_over(len(texts), scored, baselines, options)
    return make_outputs(resident, scored, len(texts), gains, options)


async def _score(
    resident: Resident, texts: Sequence[Text], options: RewardOptions, wait_s: float
) -> Scored:
    """Score, or wait for room in the queue: a trainer's client gives up sooner than we do."""
    deadline_s = time.monotonic() + wait_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await resident.scoring.score(texts, options)
        except OverloadedError:
            if time.monotonic() + pause_s > deadline_s:
                raise
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _tap(runtime: Runtime, texts: Sequence[Text], asked: Asked) -> None:
    if runtime.tap is None:
        return
    groups = [
        Group(prompt=text.prompt, completions=[text.completion], finished=[text.finished])
        for text in texts
        if has_prompt(text) and text.completion
    ]
    runtime.tap.offer(groups, asked.tap_policy, asked.tap_step)
