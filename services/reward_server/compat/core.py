"""What every compatible route calls: texts in, one value per text out, by the native path.

Which value is the reward is a setting and a query parameter, so that a URL alone selects it:

* `score`: the mean over members, as `POST /v1/score` gives it.
* `lcb`: mean - lcb_k * std.
* `contrastive`: the score over the stored baselines of the prompt, as `POST /v1/contrastive`
  gives it; with `lcb_k` its lower bound. A missing baseline is 503.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from assay.errors import (
    AssayError,
    FieldError,
    InvalidInputError,
    MalformedRequestError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    UnavailableError,
)
from assay.rewards.aggregate import aggregate, check_aggregate, or_none, spread
from assay.rewards.strength import sigmoid
from assay.schemas import boundary
from assay.schemas.base import Inbound
from assay.schemas.refs import parse_pin
from assay.schemas.scoring import ContrastiveOptions, Group
from assay.schemas.text import Completion, Prompt
from assay.schemas.validation import invalid_input
from reward_server.contrast import find_stored, group_rewards
from reward_server.routes.dependencies import answering
from reward_server.scoring import Encoding, Scored, Text
from reward_server.settings import RewardMode

if TYPE_CHECKING:
    from fastapi import Request

    from assay.models.scorer import Truncate
    from reward_server.runtime import Runtime
    from reward_server.versions import Resident

logger = logging.getLogger(__name__)
_TAKEN_OFF = {"lcb": "uncertainty", "contrastive": "baseline"}
_AT_HAND_S = 0.25  # that a reward waits for a baseline which it does not need
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_RETRY_AFTER_OPERATOR_S = 30.0


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


class Gain(NamedTuple):
    """The contrastive reward, and how many stored baselines it is over."""

    reward: float
    baselines: int


class Value(NamedTuple):
    """What one text is worth.

    Attributes:
        reward: the value that was asked for.
        score: mean over members, as `POST /v1/score` gives it.
        std: population std over members; None with one member or without calibration.
        probability: sigmoid(score / T) with T of the calibration, in (0, 1): how likely a judge
            prefers the completion to one of average score (Bradley-Terry).
        gain: over the stored baselines; None = there are none at hand.
        components: of a composite, by name; they sum to `score`.
    """

    reward: float
    score: float
    std: float | None
    probability: float
    gain: Gain | None
    components: Mapping[str, float] | None


class Output(NamedTuple):
    """What came of one input.

    Attributes:
        tokens: that were scored.
        truncated: True = some were dropped first.
        value: None = a rule gave no score.
    """

    tokens: int
    truncated: bool
    value: Value | None

    @property
    def reward(self) -> float | None:
        """The reward; None = a rule gave no score."""
        return self.value.reward if self.value else None


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


class Asked(Inbound):
    """The query of a compatible route. What it does not know is refused: a typo in `reward`
    would train on another one."""

    reward: RewardMode | None = Field(default=None, description="None = the setting `reward`.")
    lcb_k: float | None = Field(default=None, ge=0.0, le=100.0, description="None = 1 for `lcb`.")
    policy: str | None = Field(
        default=None, min_length=1, max_length=256, description="Whose stored baselines to use."
    )
    statistic: Literal["mean", "median"] = "mean"
    tap_policy: str | None = Field(default=None, min_length=1, max_length=256)
    tap_step: int | None = Field(default=None, ge=0, le=2**53)


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
    mode = asked.reward or runtime.settings.reward
    options = _options(asked, mode, _pin(runtime, model))
    encoding = Encoding(truncate=truncate, max_tokens=max_tokens)
    texts = [_text(entry, runtime.settings.text_rules, encoding) for entry in inputs]
    prompts = [text.prompt for text in texts if _has_prompt(text)]
    with answering(runtime, request, options, prompts) as resident:
        _check_aggregate(resident, options, mode)
        outputs: list[Output] = []
        if texts:
            outputs = await _outputs(runtime, resident, texts, options, mode, with_contrastive)
    _tap(runtime, texts, asked)
    return Answer(resident.card.id, mode, outputs)


# For the OpenAPI document of a route: `openapi_extra`.
PARAMETERS: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "query", "schema": schema}
        for name, schema in Asked.model_json_schema()["properties"].items()
    ]
}


def read_query(request: Request, own: Collection[str] = ()) -> Asked:
    """The query without a route's own parameters, and what headers say of the tap.

    Raises:
        InvalidInputError: a parameter is wrong or unknown; it is named.
    """
    headers = {"tap_policy": "x-assay-policy", "tap_step": "x-assay-step"}
    given = {
        name: request.headers[header]
        for name, header in headers.items()
        if header in request.headers
    }
    query = {
        name: value for name, value in request.query_params.items() if name not in ("model", *own)
    }
    try:
        return Asked.model_validate({**given, **query})
    except ValidationError as error:
        faults = [{**fault, "loc": ("query", *fault["loc"])} for fault in error.errors()]
        raise invalid_input(faults) from None


def _options(asked: Asked, mode: RewardMode, pin: str | None) -> ContrastiveOptions:
    pessimistic = mode == "lcb" or (mode == "contrastive" and asked.lcb_k is not None)
    return ContrastiveOptions(
        model=pin,
        aggregate="lcb" if pessimistic else "mean",
        lcb_k=1.0 if asked.lcb_k is None else asked.lcb_k,
        policy=asked.policy,
        statistic=asked.statistic,
    )


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


def _check_aggregate(resident: Resident, options: ContrastiveOptions, mode: RewardMode) -> None:
    if mode == "contrastive":  # offsets of members cancel
        check_aggregate(options.aggregate, resident.card.assay.members, calibrated=True)
    else:
        resident.check_aggregate(options)


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
        if isinstance(prompt, str):
            return boundary.read_after(prompt, entry.text, rules)
        return boundary.read(entry.text, rules)
    assert prompt is not None  # noqa: S101 - an input is a text, ids, or both of these
    assert completion is not None  # noqa: S101
    return boundary.read_apart(prompt, completion, rules)


def _has_prompt(text: Text) -> bool:
    return text.encoding is None or not (text.encoding.raw or text.encoding.ids)


async def _outputs(
    runtime: Runtime,
    resident: Resident,
    texts: Sequence[Text],
    options: ContrastiveOptions,
    mode: RewardMode,
    with_contrastive: bool,
) -> list[Output]:
    baselines: dict[int, list[Completion]] = {}
    if mode == "contrastive":
        baselines = await _needed_baselines(runtime, texts, options.policy)
    elif with_contrastive and runtime.stores:
        baselines = await _baselines_at_hand(runtime, texts, options.policy)
    wait_s = runtime.settings.compat_wait_s
    try:
        scored = await _score(
            resident, [*texts, *_baseline_texts(texts, baselines)], options, wait_s
        )
    except (InvalidInputError, MalformedRequestError, PayloadTooLargeError):
        if mode == "contrastive" or not baselines:
            raise
        baselines = {}  # one of them may be the reason
        scored = await _score(resident, texts, options, wait_s)
    gains = _gains(len(texts), scored, baselines, options)
    return _make_outputs(resident, scored, len(texts), gains, options, mode)


async def _needed_baselines(
    runtime: Runtime, texts: Sequence[Text], policy: str | None
) -> dict[int, list[Completion]]:
    for text in texts:
        if not _has_prompt(text):
            fault = FieldError(
                text.path, "the contrastive reward needs a prompt in a known template"
            )
            raise InvalidInputError(f"{fault.path}: {fault.message}", fields=(fault,))
    found = await find_stored(runtime, [(text.path, text.prompt) for text in texts], policy)
    missing = [text.path for text, completions in zip(texts, found, strict=True) if not completions]
    if missing:
        raise UnavailableError(
            f"no baseline is stored for the prompt of {', '.join(missing[:5])}",
            fields=tuple(FieldError(path, "no baseline is stored") for path in missing),
            retry_after_s=_RETRY_AFTER_OPERATOR_S,
        )
    return dict(enumerate(found))


async def _baselines_at_hand(
    runtime: Runtime, texts: Sequence[Text], policy: str | None
) -> dict[int, list[Completion]]:
    """Those that Redis gives at once: the reward does not depend on them."""
    wanted = [index for index, text in enumerate(texts) if _has_prompt(text)]
    try:
        async with asyncio.timeout(_AT_HAND_S):
            found = await find_stored(
                runtime, [(texts[index].path, texts[index].prompt) for index in wanted], policy
            )
    except (AssayError, TimeoutError) as error:
        logger.debug("no baselines at hand", extra={"reason": str(error)})
        return {}
    return {
        index: completions for index, completions in zip(wanted, found, strict=True) if completions
    }


def _baseline_texts(
    texts: Sequence[Text], baselines: Mapping[int, Sequence[Completion]]
) -> list[Text]:
    return [
        Text(
            texts[index].prompt,
            completion,
            path=f"{texts[index].path}: stored baseline {number}",
            label=texts[index].label,
        )
        for index, completions in baselines.items()
        for number, completion in enumerate(completions)
    ]


async def _score(
    resident: Resident, texts: Sequence[Text], options: ContrastiveOptions, wait_s: float
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


def _gains(
    position: int,
    scored: Scored,
    baselines: Mapping[int, Sequence[Completion]],
    options: ContrastiveOptions,
) -> dict[int, Gain]:
    """What each text that has baselines, whose scores start at `position`, gains over them."""
    scores = scored.with_gaps
    gains = {}
    for index, completions in baselines.items():
        own = scores[position : position + len(completions)]
        position += len(completions)
        result = group_rewards(options, scores[[index]], "stored", own)
        (reward,) = result.rewards
        if reward is not None and result.baseline is not None:
            gains[index] = Gain(reward, result.baseline.count)
    return gains


def _make_outputs(
    resident: Resident,
    scored: Scored,
    texts: int,
    gains: Mapping[int, Gain],
    options: ContrastiveOptions,
    mode: RewardMode,
) -> list[Output]:
    calibration = resident.card.assay.calibration
    temperature = calibration.temperature if calibration else 1.0
    members = scored.with_gaps[:texts]
    scores = members.mean(axis=1)
    rewards = or_none(aggregate(members, options.aggregate, options.lcb_k))
    stds = or_none(spread(members)) if calibration and members.shape[1] > 1 else [None] * texts
    probabilities = sigmoid(scores / temperature)
    outputs = []
    for index, encoded in enumerate(scored.encoded[:texts]):
        gain, value = gains.get(index), None
        reward = rewards[index] if mode != "contrastive" else gain and gain.reward
        if reward is not None:
            value = Value(
                reward=reward,
                score=float(scores[index]),
                std=stds[index],
                probability=float(probabilities[index]),
                gain=gain,
                components=_components(scored, index),
            )
        outputs.append(Output(len(encoded), encoded.truncated, value))
    return outputs


def _components(scored: Scored, index: int) -> dict[str, float] | None:
    if scored.components is None:
        return None
    return {name: float(values[index]) for name, values in scored.components.items()}


def _tap(runtime: Runtime, texts: Sequence[Text], asked: Asked) -> None:
    if runtime.tap is None:
        return
    groups = [
        Group(prompt=text.prompt, completions=[text.completion])
        for text in texts
        if _has_prompt(text) and text.completion
    ]
    runtime.tap.offer(groups, asked.tap_policy, asked.tap_step)
