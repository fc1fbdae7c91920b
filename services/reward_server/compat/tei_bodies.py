"""What TEI's clients send, and what they read: the schemas behind `reward_server.compat.tei`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from assay.models.scorer import Truncate
from assay.schemas.base import Inbound, Outbound, example
from reward_server.compat.fields import NonEmpty, Unsupported

_PROMPT, _REPLY = "What is the capital of France?", "The capital of France is Paris."


def _one_or_two(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(texts) <= 2:
        raise ValueError(
            f"{len(texts)} texts, where one or a pair is read: write a batch as [[...], [...]]"
        )
    return texts


Sequence: TypeAlias = Annotated[
    tuple[NonEmpty, ...], Field(fail_fast=True), AfterValidator(_one_or_two)
]


def _shape(value: object) -> str:
    if isinstance(value, str):
        return "<text>"
    is_flat = isinstance(value, list | tuple) and bool(value) and isinstance(value[0], str)
    return "<pair>" if is_flat else "<batch>"


PredictInputs: TypeAlias = Annotated[
    Annotated[NonEmpty, Tag("<text>")]
    | Annotated[Sequence, Tag("<pair>")]
    | Annotated[list[Sequence], Field(fail_fast=True), Tag("<batch>")],
    Discriminator(_shape),
]


class _Common(Inbound):
    truncate: Annotated[bool, Field(strict=True)] | None = Field(
        default=None, description="False = an input that is too long is refused; null = true."
    )
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = Field(
        default=None, description="Where a longer input loses tokens; null = left."
    )
    raw_scores: Annotated[bool, Field(strict=True)] | None = Field(
        default=None, description="False = a sigmoid; null and true = raw scores."
    )

    @property
    def on_too_long(self) -> Truncate:
        """What happens to an input over the limit."""
        if self.truncate is False:
            return "error"
        return "right" if self.truncation_direction in ("right", "Right") else "left"

    @property
    def activated(self) -> bool:
        """Whether the sigmoid is asked for by name."""
        return self.raw_scores is False


class Parameters(Inbound):
    """What Hugging Face's `InferenceClient` sends beside `inputs`."""

    function_to_apply: Literal["none", "sigmoid"] | None = Field(
        default=None, description="none = raw scores, as by default."
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="There is one label."
    )


class PredictBody(_Common):
    """`/predict`: one text, one pair, or a batch of both."""

    model_config = example(inputs=[[_PROMPT, _REPLY]], raw_scores=True)

    inputs: PredictInputs = Field(
        description="A text; a pair of prompt and completion; or a list whose entries are lists of "
        "one text or of two."
    )
    parameters: Parameters = Parameters()

    @property
    def batch(self) -> list[tuple[str, ...]]:
        """The texts and pairs to score."""
        if isinstance(self.inputs, list):
            return self.inputs
        return [(self.inputs,) if isinstance(self.inputs, str) else self.inputs]

    @property
    def activated(self) -> bool:
        """Whether the sigmoid is asked for by name."""
        return self.raw_scores is False or self.parameters.function_to_apply == "sigmoid"


class RerankBody(_Common):
    """`/rerank`: one prompt with its completions."""

    model_config = example(query=_PROMPT, texts=[_REPLY], raw_scores=True)

    query: NonEmpty
    texts: Annotated[list[NonEmpty], Field(fail_fast=True)]
    return_text: bool = Field(default=False, description="True = with the texts.")
    prompt_name: Unsupported = None


class Prediction(Outbound):
    """The score of one input."""

    score: float
    label: str


class Rank(Outbound):
    """One text and its score."""

    index: int
    text: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Left out unless asked for.",
    )
    score: float


class Labels(Outbound):
    """The one label of a reward model."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(Outbound):
    """What kind of model is served: one score for a text or a pair."""

    reranker: Labels


class Info(Outbound):
    """Reply of `/info`; what Assay has no figure for is null."""

    model_id: str
    model_sha: str
    model_dtype: str
    served_model_name: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: None = None
    max_client_batch_size: int
    auto_truncate: bool = True
    tokenization_workers: int
    version: str
    sha: None = None
    docker_label: None = None
