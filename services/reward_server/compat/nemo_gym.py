"""A NeMo-Gym resources server, the door to NeMo-RL and to prime-rl through verifiers.

`POST /verify` scores the final answer of a response against its input and echoes the row with
`reward`; `POST /seed_session` has nothing to prepare. Messages of `responses_create_params` are the
prompt, items of `response` the completion: reasoning is left out, tool calls and their outputs are
messages; a response with the status `incomplete` was cut. The label for rules is the row's `label`,
`ground_truth` or `expected_answer`. Beside `reward` the reply has `reward_components`, which sum to
it, and the numbers `assay_score`, `assay_std`, `assay_version`, `assay_truncated` and, where a
baseline is stored, `assay_contrastive`.

A text without a score has `_ng_failure_class` = `judge_failed` and the reward 0.0 as a placeholder,
which NeMo-RL leaves out. verifiers does not know that mark and would train on it: give it the URL
`http://HOST:PORT/q/no_score=error`, and it gets a 503.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from assay.errors import InvalidInputError
from assay.schemas.text import Completion, Message, Prompt
from reward_server.compat.core import Answer, Input, answer
from reward_server.compat.errors import describe
from reward_server.compat.query import PARAMETERS
from reward_server.compat.values import Value
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRoute

router = APIRouter(route_class=StrictJSONRoute, tags=["compatible"])

_VERDICT = frozenset({"reward", "reward_components", "_ng_failure_class"})
_LABELS = ("label", "ground_truth", "expected_answer")
_ROLES = {"developer": "system"}
_EXAMPLE: dict[str, Any] = {
    "responses_create_params": {"input": [{"role": "user", "content": "Name a prime."}]},
    "response": {
        "output": [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Seven.", "annotations": []}],
            }
        ]
    },
}


class _Echoed(BaseModel):
    """Part of a row: what is not read here goes back as it came."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, frozen=True)


class Part(_Echoed):
    """A part of a message; text only."""

    text: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def _has_text(self) -> Part:
        if self.text is None and self.refusal is None:
            raise ValueError("only parts with text can be scored")
        return self


Content = str | Annotated[list[Part], Field(fail_fast=True)] | None


class Item(_Echoed):
    """One item of a Responses input or output."""

    type: Literal[
        "message",
        "reasoning",
        "function_call",
        "custom_tool_call",
        "function_call_output",
        "custom_tool_call_output",
    ] = "message"
    role: str | None = Field(default=None, min_length=1, max_length=64)
    content: Content = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: Content = None


class Params(_Echoed):
    """What the policy was asked."""

    instructions: str | None = None
    input: str | Annotated[list[Item], Field(min_length=1, fail_fast=True)]


class PolicyResponse(_Echoed):
    """What it answered."""

    output: Annotated[list[Item], Field(fail_fast=True)]
    status: str | None = None


class Row(_Echoed):
    """`POST /seed_session`: any row."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})


class VerifyRequest(_Echoed):
    """`POST /verify`: a row of the data set with the policy's response."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    responses_create_params: Params
    response: PolicyResponse


@router.post("/seed_session", responses=describe("plain"))
async def seed_session(row: Row) -> dict[str, Any]:
    """Nothing is kept between the two calls."""
    return {}


@router.post(
    "/verify",
    responses=describe("plain"),
    openapi_extra=PARAMETERS,
    response_model=dict[str, Any],
)
async def verify(
    body: VerifyRequest,
    request: Request,
    runtime: RuntimeDep,
    no_score: Annotated[Literal["mark", "error"], Query()] = "mark",
) -> JSONResponse:
    """The row with its reward."""
    row = body.model_dump(mode="json", exclude_unset=True)
    entry = Input(
        "response.output",
        prompt=_prompt(body.responses_create_params),
        completion=_completion(body.response.output),
        label=next((row[name] for name in _LABELS if row.get(name) is not None), None),
        finished=body.response.status != "incomplete",
    )
    answered = await answer(runtime, request, [entry], with_contrastive=True, own=("no_score",))
    (output,) = answered.outputs
    if output.value is None and no_score == "mark":
        return _echo(row, {"reward": 0.0, "_ng_failure_class": "judge_failed"})
    (value,) = answered.values()
    return _echo(row, _verdict(answered, value, output.truncated))


def _echo(row: dict[str, Any], verdict: dict[str, Any]) -> JSONResponse:
    kept = {name: value for name, value in row.items() if name not in _VERDICT}
    try:
        return JSONResponse({**kept, **verdict})
    except ValueError:
        raise InvalidInputError("a number in the row is too large to be echoed") from None


def _verdict(answered: Answer, value: Value, truncated: bool) -> dict[str, Any]:
    numbers = {
        "assay_score": value.score,
        "assay_std": value.std,
        "assay_version": answered.version,
        "assay_truncated": int(truncated),
        "assay_contrastive": value.gain.reward if value.gain else None,
    }
    return {
        "reward": value.reward,
        "reward_components": answered.parts(value),
        **{name: number for name, number in numbers.items() if number is not None},
    }


def _prompt(params: Params) -> Prompt:
    system = [Message(role="system", content=params.instructions)] if params.instructions else []
    if not isinstance(params.input, str):
        return system + _messages(params.input, "user")
    return [*system, Message(role="user", content=params.input)] if system else params.input


def _completion(items: Sequence[Item]) -> Completion:
    messages = _messages(items, "assistant")
    if not messages:
        return ""
    first = messages[0].content
    return first if len(messages) == 1 and isinstance(first, str) else messages


def _messages(items: Sequence[Item], role: str) -> list[Message]:
    """Items as chat messages; the calls of one turn go with the message before them."""
    messages: list[dict[str, Any]] = []
    for item in items:
        if item.type == "message":
            spoken_by = item.role or role
            content = _text(item.content)
            messages.append({"role": _ROLES.get(spoken_by, spoken_by), "content": content})
        elif item.type.endswith("_output"):
            content = _text(item.output)
            messages.append({"role": "tool", "content": content, "tool_call_id": item.call_id})
        elif item.type.endswith("_call"):
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            messages[-1].setdefault("tool_calls", []).append(_call(item))
    return [Message.model_validate(message) for message in messages]


def _call(item: Item) -> dict[str, Any]:
    arguments = item.arguments if item.arguments is not None else item.input
    return {
        "id": item.call_id,
        "type": "function",
        "function": {"name": item.name, "arguments": arguments or ""},
    }


def _text(content: Content) -> str:
    if isinstance(content, list):
        return "".join(part.text or part.refusal or "" for part in content)
    return content or ""
