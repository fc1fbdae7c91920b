"""huggingface_hub's `InferenceClient` on TEI's route."""

from __future__ import annotations

import math

import pytest
from huggingface_hub import InferenceClient

from native import native_score

TEXT = "\n\nHuman: What is 2 + 2?\n\nAssistant: It is 4."


@pytest.mark.parametrize("function", [None, "none", "sigmoid"])
def test_scores_are_raw_unless_the_sigmoid_is_asked_for(url: str, function: str | None) -> None:
    client = InferenceClient(model=f"{url}/predict")
    result = client.text_classification(TEXT, function_to_apply=function)  # type: ignore[arg-type]
    prompt, completion = TEXT.rsplit(" It is", 1)[0], " It is 4."
    score = native_score(url, prompt, completion)["score"]
    expected = 1.0 / (1.0 + math.exp(-score)) if function == "sigmoid" else score
    assert result.score == pytest.approx(expected, abs=1e-5)  # type: ignore[attr-defined]
