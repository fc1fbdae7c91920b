"""What SGLang's clients send, and what they read: the schemas behind `compat.sglang`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from assay.schemas.base import Inbound, Outbound, example
from reward_server.compat.fields import (
    Inputs,
    ModelName,
    OneOrMoreIds,
    OneOrMoreTexts,
    TextOrIds,
    Unsupported,
)
from reward_server.compat.vllm_bodies import Usage

_PROMPT, _REPLY = "What is the capital of France?", "The capital of France is Paris."
_TEXT = f"{_PROMPT}\n{_REPLY}"
_Id = Annotated[str, Field(min_length=1, max_length=256)]
_Ids = Annotated[
    Annotated[_Id, Tag("<id>")] | Annotated[list[_Id], Field(fail_fast=True), Tag("<ids>")],
    Discriminator(lambda value: "<id>" if isinstance(value, str) else "<ids>"),
]


class _Common(Inbound):
    model: ModelName | None = None
    rid: _Ids | None = Field(default=None, description="The reply's id, or one for each input.")
    priority: Literal[0] | None = Field(
        default=None, description="There is one queue, without priorities."
    )


class ClassifyBody(_Common):
    """The native `/classify`: texts, or token ids."""

    model_config = example(text=[_TEXT])

    text: OneOrMoreTexts | None = Field(default=None, description="One text, or a list of them.")
    input_ids: OneOrMoreIds | None = Field(
        default=None, description="The token ids of one input, or a list of them."
    )
    routing_key: str | None = Field(default=None, description="Accepted, and of no effect.")
    lora_path: Unsupported = None

    @model_validator(mode="after")
    def _one_of_both(self) -> ClassifyBody:
        if (self.text is None) == (self.input_ids is None):
            raise ValueError("text or input_ids is needed, and not both")
        if isinstance(self.rid, list) and (self.is_single or len(self.rid) != len(self.inputs)):
            raise ValueError(f"rid has {len(self.rid)} entries for {len(self.inputs)} inputs")
        return self

    @property
    def is_single(self) -> bool:
        """Whether one input was sent by itself, so that one object answers it."""
        return isinstance(self.text, str) or isinstance(self.input_ids, tuple)

    @property
    def inputs(self) -> Sequence[str | tuple[int, ...]]:
        """The texts or token ids to score."""
        if self.text is not None:
            return [self.text] if isinstance(self.text, str) else self.text
        assert self.input_ids is not None  # noqa: S101 - one of both is there
        return [self.input_ids] if isinstance(self.input_ids, tuple) else self.input_ids


class OpenAIBody(_Common):
    """`/v1/classify`: texts, or token ids."""

    model_config = example(input=[_TEXT])

    input: Inputs = Field(description="One text or its token ids, or a list of them.")
    user: str | None = Field(default=None, description="Accepted, and of no effect.")


class EmbeddingBody(OpenAIBody):
    """`/v1/embeddings`."""

    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="base64 = little-endian float32."
    )
    dimensions: Unsupported = None
    lora_path: Unsupported = None


class ScoreBody(_Common):
    """`/v1/score`: one query with its items, as texts or as token ids that are put together."""

    model_config = example(query=_PROMPT, items=[_REPLY])

    query: TextOrIds
    items: Inputs = Field(description="One text, or a list of texts or of token ids.")
    item_first: bool = Field(default=False, description="True = the item comes before the query.")
    user: str | None = Field(default=None, description="Accepted, and of no effect.")
    temperature: Annotated[float, Field(ge=1.0, le=1.0)] = 1.0
    label_token_ids: Unsupported = None
    apply_softmax: Unsupported = None
    return_pooled_hidden_states: Unsupported = None

    @model_validator(mode="after")
    def _both_alike(self) -> ScoreBody:
        has_ids = isinstance(self.query, tuple)
        if any(isinstance(item, tuple) != has_ids for item in self.items):
            raise ValueError("query and items must both be texts, or both token ids")
        return self


class MetaInfo(Outbound):
    """What SGLang tells of a request."""

    id: str
    finish_reason: dict[str, Any] = Field(default={"type": "length", "length": 0})
    prompt_tokens: int
    weight_version: str = Field(description="The version that scored: `name@7`.")
    num_retractions: int = 0


class Scored(Outbound):
    """One entry of a reply of `/classify`: the score is the only number of `embedding`."""

    embedding: list[float]
    meta_info: MetaInfo


class Embedding(Outbound):
    """One entry of a reply of `/v1/embeddings`."""

    object: Literal["embedding"] = "embedding"
    embedding: list[float] | str
    index: int


class EmbeddingReply(Outbound):
    """Reply of `/v1/embeddings`."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class ScoreReply(Outbound):
    """Reply of `/v1/score`."""

    scores: list[list[float]]
    model: str
    usage: Usage
    object: Literal["scoring"] = "scoring"


class Ranked(Outbound):
    """One entry of a reply of `/v1/rerank`."""

    score: float
    document: str | None = Field(
        default=None, exclude_if=lambda value: value is None, description="Left out if so asked."
    )
    index: int
    meta_info: MetaInfo
