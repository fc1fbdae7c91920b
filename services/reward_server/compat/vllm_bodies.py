"""What vLLM's clients send, and what they read: the schemas behind `reward_server.compat.vllm`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AliasChoices, Discriminator, Field, Tag, model_validator

from assay.schemas.base import Inbound, Outbound, example
from assay.schemas.text import Message
from reward_server.compat.fields import Inputs, ModelName, NonEmpty, Texts, Unsupported

REPLIERS = ("assistant", "tool")
_TEXT = "What is the capital of France?"
_DOCUMENTS = ["The capital of France is Paris.", "France is a country."]


class Common(Inbound):
    """What every body may carry."""

    model: ModelName | None = Field(
        default=None, description="The served model, or `name@7`: the version that must answer."
    )
    user: str | None = Field(default=None, description="Accepted, and of no effect.")
    request_id: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="Part of the reply's id."
    )
    truncate_prompt_tokens: Annotated[int, Field(ge=-1)] | None = Field(
        default=None, description="Most tokens to score; null and -1 = what the model takes."
    )
    truncation_side: Literal["left", "right"] | None = Field(
        default=None, description="Where a longer input loses tokens; null = left."
    )
    use_activation: Annotated[bool, Field(strict=True)] | None = Field(
        default=None, description="True = a sigmoid; null and false = raw scores."
    )
    priority: Literal[0] = Field(default=0, description="There is one queue, without priorities.")
    cache_salt: Unsupported = None
    mm_processor_kwargs: Unsupported = None

    @model_validator(mode="after")
    def _some_tokens(self) -> Common:
        if self.truncate_prompt_tokens == 0:
            raise ValueError("truncate_prompt_tokens 0 leaves no token to score")
        return self

    @property
    def max_tokens(self) -> int | None:
        """The most tokens to score; None = what the model takes."""
        return None if self.truncate_prompt_tokens == -1 else self.truncate_prompt_tokens


class TextBody(Common):
    """Texts or token ids."""

    model_config = example(input=f"{_TEXT}\n{_DOCUMENTS[0]}", use_activation=False)

    input: Inputs = Field(description="One text or its token ids, or a list of them.")
    add_special_tokens: bool = Field(
        default=True, description="False = the texts hold their special tokens, and get no others."
    )


class ChatBody(Common):
    """One conversation that ends in what is to be scored."""

    model_config = example(
        messages=[
            {"role": "user", "content": _TEXT},
            {"role": "assistant", "content": _DOCUMENTS[0]},
        ]
    )

    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    continue_final_message: bool = Field(
        default=False, description="True = the last message was cut: no end token is added."
    )
    add_generation_prompt: Unsupported = None
    add_special_tokens: Unsupported = None
    chat_template: Unsupported = None
    chat_template_kwargs: Unsupported = None
    media_io_kwargs: Unsupported = None

    @model_validator(mode="after")
    def _ends_in_a_reply(self) -> ChatBody:
        if self.messages[-1].role not in REPLIERS:
            raise ValueError(
                f"the last message is the {self.messages[-1].role}'s, and what is scored is a reply"
            )
        if all(message.role in REPLIERS for message in self.messages):
            raise ValueError("the messages hold a reply only, and nothing that it replies to")
        return self


def text_or_chat(value: object) -> str:
    """Which of the two forms a body has."""
    return "<chat>" if isinstance(value, dict) and "messages" in value else "<text>"


ClassifyBody: TypeAlias = Annotated[
    Annotated[TextBody, Tag("<text>")] | Annotated[ChatBody, Tag("<chat>")],
    Discriminator(text_or_chat),
]


class _Pooling(Common):
    task: Literal["classify"] | None = Field(default=None, description="One score per input.")
    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] = "float"
    embed_dtype: Literal["float32", "float16"] = Field(
        default="float32", description="Of base64 and bytes."
    )
    endianness: Literal["native", "big", "little"] = Field(
        default="native", description="Of base64 and bytes; native = little."
    )
    dimensions: Unsupported = None


class TextPoolingBody(TextBody, _Pooling):
    """Texts or token ids, and how the scores are written."""


class ChatPoolingBody(ChatBody, _Pooling):
    """One conversation, and how its score is written."""


PoolingBody: TypeAlias = Annotated[
    Annotated[TextPoolingBody, Tag("<text>")] | Annotated[ChatPoolingBody, Tag("<chat>")],
    Discriminator(text_or_chat),
]


class ScoreBody(Common):
    """Prompts with completions: one prompt for all, or one for each."""

    model_config = example(queries=_TEXT, documents=_DOCUMENTS)

    queries: Texts = Field(validation_alias=AliasChoices("queries", "data_1", "text_1"))
    documents: Texts = Field(
        validation_alias=AliasChoices("documents", "items", "data_2", "text_2")
    )

    @model_validator(mode="after")
    def _one_or_as_many(self) -> ScoreBody:
        if len(self.queries) not in (1, len(self.documents)):
            raise ValueError(
                f"{len(self.queries)} queries for {len(self.documents)} documents: "
                "one query is needed, or one for each document"
            )
        return self


class RerankBody(Common):
    """One prompt with its completions."""

    model_config = example(query=_TEXT, documents=_DOCUMENTS)

    query: NonEmpty
    documents: Texts
    top_n: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How many to return, the best first; null and 0 = all."
    )
    return_documents: bool = Field(default=True, description="False = without the texts.")
    instruct: Unsupported = None


class Usage(Outbound):
    """Tokens that were scored."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


class _Reply(Outbound):
    id: str
    object: Literal["list"] = "list"
    created: int = Field(description="Unix time.")
    model: str = Field(description="The version that scored: `name@7`.")
    usage: Usage


class Classification(Outbound):
    """The score of one input, where vLLM has probabilities."""

    index: int
    label: str | None
    probs: list[float]
    num_classes: int = 1


class ClassifyReply(_Reply):
    """Reply of `/classify`."""

    data: list[Classification]


class Pooled(Outbound):
    """The score of one input, as numbers or in base64."""

    index: int
    object: Literal["pooling"] = "pooling"
    data: list[float] | str


class PoolingReply(_Reply):
    """Reply of `/pooling`."""

    data: list[Pooled]


class PairScore(Outbound):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreReply(_Reply):
    """Reply of `/score`."""

    data: list[PairScore]


class RerankUsage(Outbound):
    """Tokens that were scored."""

    prompt_tokens: int
    total_tokens: int


class Document(Outbound):
    """What was ranked."""

    text: str | None
    multi_modal: None = None


class Ranked(Outbound):
    """One document and its score."""

    index: int
    document: Document
    relevance_score: float


class RerankReply(Outbound):
    """Reply of `/rerank`."""

    id: str
    model: str
    usage: RerankUsage
    results: list[Ranked]


class PooledBytes(Outbound):
    """Where a score stands in a reply of bytes; in the header `metadata`."""

    index: int
    embed_dtype: str
    endianness: str
    start: int
    end: int
    shape: list[int]
