"""The embedded model with a length penalty and a regex over labels, from settings to scores."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from assay.models.loading import load
from assay.models.resolve import DEFAULT_MODEL
from reward_server.app import create_app
from reward_server.engine.load import load_parts, load_scorer
from reward_server.settings import ServerSettings

COMPONENTS = [
    {"model": DEFAULT_MODEL, "normalise": "calibration"},
    {"model": f"{DEFAULT_MODEL}@1", "weight": -0.5, "name": "anchor"},
    {"rule": "length_penalty", "weight": 2.0, "options": {"free": 3, "full": 7}},
    {"rule": "regex", "weight": 0.5, "options": {"pattern": "#### {label}$"}},
]
PROMPT = "How much is 6 times 7?"
COMPLETIONS = ["Six times seven is #### 42", "It is 42", "#### 41"]


def test_the_embedded_model_with_a_penalty_and_a_regex_over_labels() -> None:
    settings = ServerSettings(_env_file=None, components=json.dumps(COMPONENTS))
    group = {"prompt": PROMPT, "completions": COMPLETIONS, "labels": [42, 42, None]}
    app = create_app(settings, *load_scorer(settings), load_parts(settings))
    with TestClient(app) as http:
        (result,) = http.post("/v1/score", json={"groups": [group]}).json()["results"]
        beside = http.get("/metrics").text
    model = load(DEFAULT_MODEL)
    calibration = model.card.assay.calibration
    assert calibration is not None
    raw = [float(model.score([model.encode(PROMPT, text)]).mean()) for text in COMPLETIONS]
    expected = [
        # 6 words: 3 of the 4 between 3 and 7 too many; the label is found
        raw[0] / calibration.temperature - 0.5 * raw[0] + 2.0 * -0.75 + 0.5,
        raw[1] / calibration.temperature - 0.5 * raw[1],
        None,
    ]
    assert result["scores"] == [
        expected[2] if e is None else pytest.approx(e, abs=1e-5) for e in expected
    ]
    assert result["components"]["length_penalty"] == [-1.5, 0.0, None]
    assert result["components"]["regex"] == [0.5, 0.0, None]
    assert result["components"]["anchor"][0] == pytest.approx(-0.5 * raw[0], abs=1e-5)
    assert 'rule_texts_total{component="regex",outcome="none"} 1.0' in beside
