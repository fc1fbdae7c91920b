"""From a prompt and a completion to token ids: formats, chat templates, truncation.

The oracle is the tokenizer's own output for the whole input. Three formats: `chat` renders the
messages with the tokenizer's template, `pair` gives prompt and completion as two segments,
`concat` joins the two texts as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import jinja2

from assay.errors import InvalidInputError, MalformedRequestError
from assay.models.scorer import EncodedInput
from assay.schemas.text import as_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import BatchEncoding, PreTrainedTokenizerBase

    from assay.models.scorer import Truncate
    from assay.schemas.text import Completion, Prompt

InputFormat = Literal["chat", "pair", "concat"]
SystemPolicy = Literal["error", "merge"]
_PLAIN = "Plain text"  # a message that every template writes as it is


@dataclass(frozen=True)
class InputEncoder:
    """Encodes inputs for one model.

    Attributes:
        tokenizer: never mutated here, so that threads can share it.
        format: how prompt and completion are joined.
        max_tokens: the longest input that the model takes.
        system: what to do if the chat template refuses a system message: answer with an error,
            or merge it into the first user turn.
    """

    tokenizer: PreTrainedTokenizerBase
    format: InputFormat
    max_tokens: int
    system: SystemPolicy = "error"

    def encode(
        self,
        prompt: Prompt,
        completion: Completion,
        *,
        finished: bool = True,
        raw: bool = False,
        truncate: Truncate = "left",
        max_tokens: int | None = None,
    ) -> EncodedInput:
        """See `Scorer.encode`."""
        if self.format == "pair":
            encoding = self.tokenizer(as_text(prompt), as_completion_text(completion))
        elif self.format == "concat" or raw:
            text = as_text(prompt) + as_completion_text(completion)
            encoding = self.tokenizer(text)
        else:
            text = self._render(prompt, completion, finished)
            encoding = self.tokenizer(text, add_special_tokens=False)
        keep = list(range(len(encoding["input_ids"])))
        if not keep:
            raise InvalidInputError("prompt and completion are both empty: there is no token")
        if not finished:
            keep = self._without_end_token(encoding, keep)
        over = self._over(len(keep), truncate, max_tokens)
        if over > 0:
            keep = self._drop(encoding, keep, over, truncate)
        return _select(encoding, keep, truncated=over > 0)

    def encode_ids(
        self,
        ids: str | Sequence[int],
        *,
        truncate: Truncate = "left",
        max_tokens: int | None = None,
    ) -> EncodedInput:
        """See `Scorer.encode_ids`."""
        if isinstance(ids, str):
            given = self.tokenizer(ids, add_special_tokens=False)["input_ids"]
            return self.encode_ids(given, truncate=truncate, max_tokens=max_tokens)
        if not ids:
            raise InvalidInputError("there is no token")
        if not 0 <= min(ids) <= max(ids) < len(self.tokenizer):
            raise InvalidInputError(f"token ids of this model are 0 to {len(self.tokenizer) - 1}")
        over = max(0, self._over(len(ids), truncate, max_tokens))
        if truncate == "right":
            kept = tuple(ids[: len(ids) - over])
        else:
            first = 1 if over and ids[0] == self.tokenizer.bos_token_id else 0
            kept = (*ids[:first], *ids[first + over :])
        has_segments = "token_type_ids" in self.tokenizer.model_input_names
        return EncodedInput(kept, (0,) * len(kept) if has_segments else None, over > 0)

    def _over(self, tokens: int, truncate: Truncate, max_tokens: int | None) -> int:
        limit = self.max_tokens if max_tokens is None else min(self.max_tokens, max_tokens)
        if tokens > limit and truncate == "error":
            raise InvalidInputError(f"{tokens} tokens, and {limit} are taken")
        return tokens - limit

    def format_used(self, *, raw: bool) -> InputFormat:
        """The name of the format that a reply reports."""
        return "concat" if raw and self.format == "chat" else self.format

    def _render(self, prompt: Prompt, completion: Completion, finished: bool) -> str:
        messages = as_messages(prompt)
        replies = _reply_messages(completion)
        open_turn = messages[-1]
        if open_turn["role"] == "assistant" and isinstance(completion, str):
            # The prompt ends in an assistant turn already begun: the completion goes on with it.
            messages, replies = (
                messages[:-1],
                _reply_messages(f"{_content(open_turn)}{completion}"),
            )
        try:
            return self._apply_template(messages + replies, finished)
        except MalformedRequestError:
            if self.system != "merge" or not messages or messages[0]["role"] != "system":
                raise
            return self._apply_template(_merge_system(messages) + replies, finished)

    def _apply_template(self, messages: list[dict[str, Any]], finished: bool) -> str:
        try:
            return self._written(messages) if finished else self._written_open(messages)
        except (jinja2.TemplateError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise _template_refusal(error) from error

    def _written_open(self, messages: list[dict[str, Any]]) -> str:
        """Without what the template writes after the text of the last message."""
        try:
            return self._written(messages, go_on=True)
        except ValueError:  # the template rewrites that text, a thinking block for one
            plain = {"role": messages[-1]["role"], "content": _PLAIN}
            closing = self._written([*messages[:-1], plain]).rpartition(_PLAIN)[2]
            return self._written(messages).removesuffix(closing)

    def _written(self, messages: list[dict[str, Any]], *, go_on: bool = False) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages, tokenize=False, continue_final_message=go_on
            )
        )

    def _without_end_token(self, encoding: BatchEncoding, keep: list[int]) -> list[int]:
        ends_in_eos = encoding["input_ids"][keep[-1]] == self.tokenizer.eos_token_id
        return keep[:-1] if ends_in_eos and len(keep) > 1 else keep

    def _drop(
        self, encoding: BatchEncoding, keep: list[int], over: int, side: Truncate
    ) -> list[int]:
        """Drop `over` tokens from one end: a pair's prompt first, special tokens never."""
        segments = encoding.sequence_ids(0)
        starts_with_bos = encoding["input_ids"][0] == self.tokenizer.bos_token_id
        text = [i for i in keep if segments[i] is not None and not (i == 0 and starts_with_bos)]
        if over >= len(text):
            raise InvalidInputError(f"{len(keep) - over} tokens leave no room for the text")
        dropped = set(text[-over:] if side == "right" else text[:over])
        return [i for i in keep if i not in dropped]


def _select(encoding: BatchEncoding, keep: list[int], *, truncated: bool) -> EncodedInput:
    ids, type_ids = encoding["input_ids"], encoding.get("token_type_ids")
    return EncodedInput(
        ids=tuple(ids[i] for i in keep),
        type_ids=None if type_ids is None else tuple(type_ids[i] for i in keep),
        truncated=truncated,
    )


def as_text(prompt: Prompt) -> str:
    """A prompt for a model without a chat template: strings as they are, messages in HH style."""
    if isinstance(prompt, str):
        return prompt
    turns = [_hh_turn(message) for message in as_messages(prompt)]
    is_begun = prompt[-1].role == "assistant"  # the completion goes on with that turn
    return "".join(turns) + ("" if is_begun else "\n\nAssistant:")


def as_completion_text(completion: Completion) -> str:
    """A completion for a model without a chat template: the texts of its messages."""
    if isinstance(completion, str):
        return completion
    return "\n".join(_content(m) for m in as_messages(completion))


def _hh_turn(message: dict[str, Any]) -> str:
    speaker = {"user": "Human", "assistant": "Assistant"}.get(message["role"])
    text = _content(message)
    return f"\n\n{speaker}: {text}" if speaker else f"\n\n{text}"


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise InvalidInputError("this model reads text, and a message has parts of other kinds")
        return "".join(str(part) for part in parts)
    return content or ""


def _reply_messages(completion: Completion) -> list[dict[str, Any]]:
    if isinstance(completion, str):
        return [{"role": "assistant", "content": completion}]
    return as_messages(completion)


def _merge_system(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    system, first, *rest = messages if len(messages) > 1 else [*messages, {}]
    if first.get("role") != "user":
        return [{"role": "user", "content": _content(system)}, *([first] if first else []), *rest]
    merged = f"{_content(system)}\n\n{_content(first)}"
    return [{"role": "user", "content": merged}, *rest]


def _template_refusal(error: Exception) -> MalformedRequestError:
    return MalformedRequestError(f"the model's chat template refuses these messages: {error}"[:300])
