import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from ppo_worker.demo.corpus import CREDITS
from ppo_worker.demo.task import POLICY, held_out_prompts

Loaded = tuple[LlamaForCausalLM, PreTrainedTokenizerBase]


@pytest.fixture(scope="module")
def policy() -> Loaded:
    """As anybody would load it."""
    model = LlamaForCausalLM.from_pretrained(POLICY, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(POLICY)


def loss(policy: Loaded, prompt: str, text: str) -> float:
    """Nats per token of a text and its end, after a prompt."""
    model, tokenizer = policy
    given = tokenizer(prompt)["input_ids"]
    ids = [*given, *tokenizer(text + tokenizer.eos_token, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, len(given) - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[len(given) :])))


def test_the_weights_are_small_bf16_and_credited() -> None:
    weights = POLICY / "model.safetensors"
    assert weights.stat().st_size <= 16 * 2**20
    with safe_open(weights, "pt") as file:
        shapes = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        assert {part.get_dtype() for part in shapes.values()} == {"BF16"}
    manifest = json.loads((POLICY / "manifest.json").read_text())
    assert manifest["credits"] == CREDITS
    assert manifest["parameters"] <= 8_000_000


def test_it_tells_english_from_a_heap_of_words(policy: Loaded) -> None:
    prompt = held_out_prompts()[0]
    text = "I think it is better because it is easy to use and most people know how it works."
    heap = "it works use better and is how easy I people it because most is to know it think."
    assert loss(policy, prompt, text) < loss(policy, prompt, heap) - 1.0


def test_most_of_its_completions_end_by_themselves(policy: Loaded) -> None:
    model, tokenizer = policy
    torch.manual_seed(0)
    batch = tokenizer(held_out_prompts(), padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    width = batch["input_ids"].shape[1]
    completions = model.generate(**inputs)[:, width:]  # type: ignore[misc]
    ended = (completions == tokenizer.eos_token_id).any(dim=1)
    assert ended.float().mean() >= 0.75
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    assert len(set(texts)) == len(texts)
    assert all(20 < len(text) < 400 and "<|" not in text for text in texts)
