"""The default policy's tokenizer: byte-level BPE, trained on its own corpus."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from ppo_worker.demo.corpus import Document

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
_SPECIAL = [PAD, END, USER, ASSISTANT]
_CHAT = (
    "{% for message in messages %}"
    "{{ '<|assistant|>' if message['role'] == 'assistant' else '<|user|>' }}"
    "{{ message['content'] }}"
    "{{ '<|end|>' if message['role'] == 'assistant' else '' }}"
    "{% endfor %}"
    "{{ '<|assistant|>' if add_generation_prompt else '' }}"
)


def train_tokenizer(texts: Iterable[str], size: int, longest: int) -> PreTrainedTokenizerFast:
    """Learn a vocabulary.

    A prompt that is tokenized as it is gets the marks around it that its chat template gives it.

    Args:
        texts: what to learn it from.
        size: of the vocabulary, the 256 bytes and 4 marks included.
        longest: tokens that the model is made for.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=_SPECIAL,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in (USER, ASSISTANT)]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{USER} $A {ASSISTANT}", special_tokens=marks
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
        model_max_length=longest,
        chat_template=_CHAT,
    )


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> list[array[int]]:
    """The tokens of a document, once for each of its prompts, its end included."""

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    answer = [*ids(document.text), *ids(END)]
    if not document.prompts:
        return [array("H", [*ids(ASSISTANT), *answer])]
    return [array("H", [*tokenizer.encode(prompt), *answer]) for prompt in document.prompts]
