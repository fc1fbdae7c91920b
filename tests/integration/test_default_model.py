"""The embedded default model: against plain transformers and peft, and through the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from starlette.testclient import TestClient
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from assay.models.loading import load
from assay.models.manifest import read_manifest
from assay.models.resolve import DEFAULT_MODEL, EMBEDDED, backbone_folder
from assay.models.scorer import Scorer
from reward_server.app import create_app
from reward_server.settings import ServerSettings

FOLDER = EMBEDDED / DEFAULT_MODEL / "1"
PROMPT = "\n\nHuman: Should smoking be banned in public?\n\nAssistant:"
COMPLETIONS = [
    "Yes, because second-hand smoke harms people who never chose it.",
    "no",
    "I like turtles. " * 150,
    "Bans work: hospitals saw fewer heart attacks within a year, and pubs did not close.",
]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def http(scorer: Scorer) -> Iterator[TestClient]:
    with TestClient(create_app(ServerSettings(_env_file=None), scorer)) as client:
        yield client


def by_plain_peft(member: Path, pairs: list[tuple[str, str]]) -> list[float]:
    """One member alone, one text at a time, without anything of ours but the folder."""
    manifest = read_manifest(FOLDER)
    assert manifest.backbone is not None
    base = AutoModelForSequenceClassification.from_pretrained(
        backbone_folder(manifest.backbone.source),
        num_labels=1,
        num_hidden_layers=manifest.backbone.layers,
    )
    model: Any = PeftModel.from_pretrained(base, str(member)).eval().base_model.model
    tokenizer: Any = AutoTokenizer.from_pretrained(FOLDER)
    scores = []
    for prompt, completion in pairs:
        inputs = tokenizer(prompt, completion, return_tensors="pt")
        with torch.no_grad():
            hidden = model.bert(**inputs).last_hidden_state
            scores.append(float(model.classifier(hidden.mean(dim=1))))
    return scores


def test_every_member_scores_as_plain_peft_does_whatever_the_batch(scorer: Scorer) -> None:
    short = [text for text in COMPLETIONS if len(text) < 1000]
    pairs = [(PROMPT, text) for text in short]
    encoded = [scorer.encode(prompt, text) for prompt, text in pairs]
    long = scorer.encode(PROMPT, COMPLETIONS[2])
    together = scorer.score([long, *encoded])[1:]
    for index, member in enumerate(read_manifest(FOLDER).members):
        expected = by_plain_peft(FOLDER / member, pairs)
        np.testing.assert_allclose(together[:, index], expected, atol=1e-4)
    for row, text in zip(together, encoded, strict=True):
        np.testing.assert_allclose(scorer.score([text])[0], row, atol=1e-4)


def test_strength_and_its_swap_agree_with_the_differences(http: TestClient) -> None:
    pairs = [
        {"prompt": PROMPT, "chosen": COMPLETIONS[0], "rejected": COMPLETIONS[1]},
        {"prompt": PROMPT, "chosen": COMPLETIONS[1], "rejected": COMPLETIONS[0]},
    ]
    reply = http.post("/v1/strength", json={"pairs": pairs, "members": True}).json()
    one, other = reply["results"]
    assert one["mean"] == pytest.approx(-other["mean"], abs=1e-6)
    assert one["std"] == pytest.approx(other["std"], abs=1e-6)
    assert one["mean"] == pytest.approx(np.mean(one["differences"]), abs=1e-6)
    assert one["std"] == pytest.approx(np.std(one["differences"]), abs=1e-6)
    assert one["members"] >= 5
    assert one["mean"] > 0  # an argument beats "no"


def test_contrastive_rewards_of_the_baselines_average_to_zero(http: TestClient) -> None:
    group = {"prompt": PROMPT, "completions": COMPLETIONS, "baselines": COMPLETIONS}
    result = http.post("/v1/contrastive", json={"groups": [group]}).json()["results"][0]
    assert np.mean(result["rewards"]) == pytest.approx(0.0, abs=1e-6)


def test_messages_and_hh_text_are_the_same_prompt(http: TestClient) -> None:
    messages = [{"role": "user", "content": "Should smoking be banned in public?"}]
    groups = [{"prompt": prompt, "completions": ["Yes."]} for prompt in (PROMPT, messages)]
    results = http.post("/v1/score", json={"groups": groups}).json()["results"]
    assert results[0] == results[1]


def test_the_card_tells_what_was_measured(http: TestClient) -> None:
    card = http.get(f"/v1/models/{DEFAULT_MODEL}").json()["assay"]
    assert {row["source"] for row in card["metrics"]["test"]} >= {"ukpconvarg1_strict"}
    assert card["calibration"]["pairs"] > 1000
    assert card["max_tokens"] == 512
