"""Scores against transformers itself: one input at a time, unpadded, read at the last token."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from assay.models.loading import load
from assay.models.options import LoadOptions
from assay.models.reward_model import RewardModel
from assay.schemas.text import Message
from tiny_models import FAMILIES, save_family

torch.set_num_threads(1)
DECODERS = [name for name in FAMILIES if name not in ("bert", "roberta", "deberta")]
HH = "\n\nHuman: hello there\n\nAssistant: hi\n\nHuman: what is 2+2?\n\nAssistant:"
TURNS = [
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "what is 2+2?"},
]
MESSAGES = [Message.model_validate(turn) for turn in TURNS]
COMPLETIONS = ["4", "It is four, of course.", "x" * 40, "5 <|im_end|>", "é🎈", "4 "]

Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folders: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in folders:
            side = "left" if len(folders) % 2 else "right"
            folder = tmp_path_factory.mktemp(family) / family
            folders[family] = save_family(family, folder, side=side)
        return folders[family]

    return make


def oracle_ids(tokenizer: Any, completion: str) -> dict[str, Any]:
    if tokenizer.chat_template:
        messages = [*TURNS, {"role": "assistant", "content": completion}]
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        return {"input_ids": torch.tensor([ids])}
    if tokenizer.sep_token:
        return dict(tokenizer(HH, completion, return_tensors="pt"))
    return {"input_ids": tokenizer(HH + completion, return_tensors="pt")["input_ids"]}


def oracle_score(folder: Path, family: str, completion: str) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = oracle_ids(tokenizer, completion)
    with torch.no_grad():
        if family in DECODERS:
            backbone = getattr(model, model.base_model_prefix)
            hidden = backbone(input_ids=inputs["input_ids"]).last_hidden_state
            return float(model.score(hidden[:, -1])[0, 0])
        return float(model(**inputs).logits[0, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_the_oracle_in_any_batch_and_order(saved: Saved, family: str) -> None:
    folder = saved(family)
    expected = {text: oracle_score(folder, family, text) for text in COMPLETIONS}
    assert (
        np.std(list(expected.values())) > 0.005
    )  # scores that differ by far more than the tolerance
    model = load(str(folder))
    encoded = {text: model.encode(HH, text) for text in COMPLETIONS}
    for seed in range(6):
        order = random.Random(seed).choices(COMPLETIONS, k=seed + 1)
        scores = model.score([encoded[text] for text in order])
        assert scores.shape == (len(order), 1)
        np.testing.assert_allclose(scores[:, 0], [expected[text] for text in order], atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_token_ids_are_the_tokenizers_own(saved: Saved, family: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(saved(family))
    model = load(str(saved(family)))
    for text in COMPLETIONS:
        ours = model.encode(MESSAGES if tokenizer.chat_template else HH, text)
        assert list(ours.ids) == oracle_ids(tokenizer, text)["input_ids"][0].tolist()
        assert model.encode(HH, text) == ours


def test_pad_equal_to_eos_is_read_at_the_last_token_and_transformers_way_only_on_request(
    saved: Saved,
) -> None:
    folder = saved("llama-pad-is-eos")
    ours = load(str(folder))
    theirs = load(str(folder), LoadOptions(pool="transformers"))
    # Without the newline after <|im_end|>, the text ends in the token that is also the pad token.
    text = ours.encode("p", "ends in <|im_end|>", raw=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert text.ids[-1] == tokenizer.pad_token_id
    reference = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        early = float(reference(input_ids=torch.tensor([text.ids])).logits[0, 0])
    assert theirs.score([text])[0, 0] == pytest.approx(early, abs=1e-4)
    assert abs(ours.score([text])[0, 0] - early) > 1e-3
    assert any("pool=transformers" in note for note in ours.card.assay.notes)


def test_formats_follow_from_the_tokenizer(saved: Saved) -> None:
    formats = {family: load(str(saved(family))).card.assay.format for family in FAMILIES}
    assert formats["qwen3"] == "chat"
    assert formats["gpt2"] == "concat"
    assert formats["bert"] == "pair"
    raw = load(str(saved("qwen3")))
    assert raw.format_used(raw=True) == "concat"
    tokenizer = AutoTokenizer.from_pretrained(saved("qwen3"))
    assert list(raw.encode("a", "b", raw=True).ids) == tokenizer("ab")["input_ids"]


def test_an_unfinished_completion_gets_no_end_token(saved: Saved) -> None:
    model = load(str(saved("qwen3")))
    finished = model.encode(HH, "cut off")
    cut = model.encode(HH, "cut off", finished=False)
    assert len(cut) < len(finished)
    assert finished.ids[: len(cut)] == cut.ids
    assert bytes_of(model, cut.ids).endswith("cut off")


def bytes_of(model: RewardModel, ids: tuple[int, ...]) -> str:
    return str(model.encoder.tokenizer.decode(list(ids)))


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "gemma2"])
def test_truncation_takes_the_oldest_prompt_tokens_and_never_the_end(
    saved: Saved, family: str
) -> None:
    model = load(str(saved(family)), LoadOptions(max_input_tokens=64))
    whole = load(str(saved(family)))
    full = whole.encode("o" * 60 + "LAST", "the completion")
    cut = model.encode("o" * 60 + "LAST", "the completion")
    assert (full.truncated, cut.truncated) == (False, True)
    assert len(cut) == 64
    kept_front = 1 if full.ids[0] in (model.encoder.tokenizer.bos_token_id, _cls(model)) else 0
    assert cut.ids[kept_front:] == full.ids[len(full) - 64 + kept_front :]
    assert cut.ids[:kept_front] == full.ids[:kept_front]
    text = bytes_of(model, cut.ids)
    assert "LAST" in text
    assert "the completion" in text
    longest = model.encode("prompt", "begin" + "c" * 100 + "end")
    assert len(longest) == 64
    assert "cccend" in bytes_of(model, longest.ids)
    assert "begin" not in bytes_of(model, longest.ids)


def _cls(model: RewardModel) -> int | None:
    identifier: int | None = model.encoder.tokenizer.cls_token_id
    return identifier


def test_a_pair_keeps_its_completion_whole_while_the_prompt_can_give(saved: Saved) -> None:
    model = load(str(saved("bert")), LoadOptions(max_input_tokens=32))
    cut = model.encode("p" * 50, "c" * 27)
    assert cut.type_ids is not None
    assert sum(cut.type_ids) == 28  # the completion and its separator
    assert len(cut) == 32


def test_roberta_positions_leave_room_for_the_padding_offset(saved: Saved) -> None:
    model = load(str(saved("roberta")))
    pad = model.encoder.tokenizer.pad_token_id
    assert model.card.assay.max_tokens == 130 - pad - 1
    assert np.isfinite(model.score([model.encode("p" * 500, "c")])).all()
