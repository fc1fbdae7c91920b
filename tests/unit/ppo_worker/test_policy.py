"""Policies on tiny random models: sampled, measured and trained as one text at a time would be."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from transformers import AutoModelForCausalLM, OPTConfig, OPTForCausalLM

from assay.errors import DataError, ModelLoadError, ModelNotFoundError
from assay.schemas.text import Message
from ppo_worker.experience import measure_all
from ppo_worker.loading import Codec, load_policy, save_policy
from ppo_worker.policy import Policy
from ppo_worker.rollout import Rollout, sample
from ppo_worker.seeds import seeded
from ppo_worker.settings import PPOSettings
from ppo_worker.tokens import Tokens
from tiny_models import CHATML, NO_SYSTEM, save_family
from tiny_policies import save_policy as save_tiny

PROMPTS = ["hi", "a longer prompt", "four"]


def load(folder: Path, **changes: object) -> tuple[Policy, Codec]:
    fields = {"policy": str(folder), "prompts": "-", "max_new_tokens": 10, **changes}
    settings = PPOSettings(_env_file=None, **fields)  # type: ignore[arg-type]
    return load_policy(settings, str(folder))


@pytest.fixture(params=["Llama", "GPT2"], scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("policies") / "tiny", request.param)


def drawn(policy: Policy, codec: Codec) -> Rollout:
    with seeded(0, "test", 0):
        return sample(policy.model, codec, PROMPTS, 2, 4)


def end_early(tokens: Tokens, codec: Codec) -> Tokens:
    """As if some completions had ended: the end token where the row's number says."""
    from ppo_worker.tokens import after_prompts

    width = tokens.width
    completions = tokens.completions.clone()
    for row in range(len(tokens) - 1):
        completions[row, row] = codec.ends[0]
    start = tokens.ids.shape[1] - width
    prompts, mask = tokens.ids[:, :start], tokens.attention_mask[:, :start]
    return after_prompts(prompts, mask, completions, codec.ends)


def test_measured_logprobs_equal_those_of_each_text_alone_and_unpadded(folder: Path) -> None:
    policy, codec = load(folder, temperature=0.7)
    tokens = end_early(drawn(policy, codec).tokens, codec)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.add_(
                0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
            )
    measured = measure_all(policy, tokens, 4)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for row in range(len(tokens)):
        ids = tokens.ids[row][tokens.attention_mask[row].bool()].unsqueeze(0)
        length = int(tokens.lengths[row])
        for model, got in ((policy.model, measured.logprobs), (plain, measured.ref_logprobs)):
            with torch.no_grad():
                logits = model(ids).logits[0, :-1] / 0.7
            alone = logits.log_softmax(-1).gather(1, ids[0, 1:].unsqueeze(1)).squeeze(1)
            assert torch.allclose(got[row, :length], alone[-length:], atol=1e-4)
            assert not got[row, length:].any()


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_a_policy_starts_as_its_reference_and_only_its_own_weights_learn(
    folder: Path, lora_rank: int | None
) -> None:
    policy, codec = load(folder, lora_rank=lora_rank)
    tokens = drawn(policy, codec).tokens
    before = measure_all(policy, tokens, 6)
    assert torch.equal(before.logprobs, before.ref_logprobs)
    assert not before.values.any()
    predicted = policy(tokens)
    (predicted.logits.square().mean() + predicted.values.sum()).backward()
    optimizer = torch.optim.SGD(
        [*policy.trained_parameters(), *policy.value_head.parameters()], 1.0
    )
    optimizer.step()
    after = measure_all(policy, tokens, 6)
    assert torch.equal(after.ref_logprobs, before.ref_logprobs)
    assert not torch.equal(after.logprobs, before.logprobs)
    assert after.values.any()


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_trained_weights_come_back_and_those_of_another_model_do_not(
    folder: Path, tmp_path: Path, lora_rank: int | None
) -> None:
    policy, codec = load(folder, lora_rank=lora_rank)
    with torch.no_grad():
        for weight in policy.trained_parameters():
            weight.add_(0.1)
    state = policy.trained_state()
    other, _ = load(folder, lora_rank=lora_rank)
    other.load_trained_state(state)
    tokens = drawn(policy, codec).tokens
    assert torch.equal(
        measure_all(other, tokens, 6).logprobs, measure_all(policy, tokens, 6).logprobs
    )
    with pytest.raises(ModelLoadError, match="another policy"):
        load(folder, lora_rank=None if lora_rank else 2)[0].load_trained_state(state)
    save_policy(policy, codec, tmp_path / "saved")
    again, _ = load(tmp_path / "saved") if lora_rank is None else (policy, codec)
    assert torch.equal(
        measure_all(again, tokens, 6).logprobs, measure_all(policy, tokens, 6).logprobs
    )


def test_completions_end_at_their_end_token_and_are_drawn_from_the_seed_alone(folder: Path) -> None:
    policy, codec = load(folder)
    rollout = drawn(policy, codec)
    assert rollout.texts == drawn(policy, codec).texts
    assert len(set(rollout.texts)) > 1
    assert [list(rollout.group(g)) for g in range(3)] == [[0, 1], [2, 3], [4, 5]]
    tokens = end_early(rollout.tokens, codec)
    assert tokens.lengths.tolist() == [1, 2, 3, 4, 5, tokens.width]
    part = tokens.rows(torch.tensor([0, 1]))  # of the shortest prompt
    assert part.width == 2
    assert part.ids.shape[1] == len(codec.encode("hi")) + 2


def test_one_seed_gives_greedy_text_at_a_low_temperature(folder: Path) -> None:
    policy, codec = load(folder, temperature=1e-4, top_p=1.0)
    text = drawn(policy, codec).texts[0]
    ids = torch.tensor([codec.encode("hi")])
    generate = cast(Callable[..., torch.Tensor], policy.model.generate)
    mask = torch.ones_like(ids)
    best = generate(input_ids=ids, attention_mask=mask, do_sample=False, temperature=1.0)
    assert codec.decode(best[0, ids.shape[1] :].tolist()) == text


def test_prompts_that_do_not_fit_and_policies_that_are_none_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    _, codec = load(folder, max_prompt_tokens=5)
    for prompt, reason in (("too long", "1 to 5"), ([], "messages")):
        with pytest.raises(DataError, match=reason):
            codec.encode(prompt)
    with pytest.raises(ModelLoadError, match="no room"):
        load(folder, max_new_tokens=256)
    with pytest.raises(ModelNotFoundError):
        load(tmp_path / "nothing")


def test_what_is_no_whole_language_model_is_refused(tmp_path: Path) -> None:
    good = save_tiny(tmp_path / "good")

    def changed(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    broken, unknown, tied = changed("broken"), changed("unknown"), changed("tied")
    (broken / "model.safetensors").write_bytes(b"garbage" * 100)
    model = AutoModelForCausalLM.from_pretrained(good)
    model.resize_token_embeddings(100)
    model.save_pretrained(unknown)
    config = json.loads((tied / "config.json").read_text())
    config["architectures"] = ["LlamaForSequenceClassification"]
    (tied / "config.json").write_text(json.dumps(config))
    wild, _ = load(good)
    next(wild.model.parameters()).data[3, 3] = math.nan
    wild.model.save_pretrained(str(changed("wild")))
    adapted, codec = load(good, lora_rank=2)
    save_policy(adapted, codec, tmp_path / "adapters")
    save_family("llama", tmp_path / "scores")
    for name, reason in {
        "scores": "no causal language model: it has no weights for lm_head.weight",
        "tied": "no causal language model",
        "broken": "does not load",
        "unknown": "the id 261, and its model 100 words",
        "wild": "embed_tokens.weight holds numbers that are not finite",
        "adapters": "merge_and_unload",
    }.items():
        with pytest.raises(ModelLoadError, match=reason):
            load(tmp_path / name)


def test_the_critic_reads_what_the_head_of_the_language_model_reads(tmp_path: Path) -> None:
    config = OPTConfig(
        vocab_size=300, hidden_size=32, word_embed_proj_dim=16, num_hidden_layers=1,
        num_attention_heads=2, ffn_dim=32, max_position_embeddings=128, do_layer_norm_before=False,
    )  # fmt: skip
    folder = save_tiny(tmp_path / "opt")
    OPTForCausalLM(config).save_pretrained(folder)
    policy, codec = load(folder)
    assert not measure_all(policy, drawn(policy, codec).tokens, 6).values.any()


def test_mixed_precision_does_not_round_what_the_critic_says(folder: Path) -> None:
    policy, codec = load(folder)
    torch.nn.init.normal_(cast(torch.nn.Linear, policy.value_head[-1]).weight)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = policy(drawn(policy, codec).tokens)

    expected = policy.value_head(predicted.hidden).squeeze(-1)
    torch.testing.assert_close(predicted.values, expected, rtol=0, atol=0)


def test_prompts_that_a_chat_template_refuses_are_named_as_such(tmp_path: Path) -> None:
    _, codec = load(save_tiny(tmp_path / "chat", template=NO_SYSTEM))
    system, begun = Message(role="system", content="s"), Message(role="assistant")
    for prompt in ([system], [Message(role="user", content="hi"), begun]):
        with pytest.raises(DataError, match="chat template refuses"):
            codec.encode(prompt)


def test_a_chat_template_is_used_where_there_is_one(tmp_path: Path) -> None:
    _, codec = load(save_tiny(tmp_path / "chat", template=CHATML))
    one = str(codec.tokenizer.decode(codec.encode("Hi")))
    assert one.startswith("<|im_start|>user\nHi<|im_end|>")
    begun = str(codec.tokenizer.decode(codec.encode("\n\nHuman: Hi\n\nAssistant: Well")))
    assert begun.endswith("assistant\nWell")
