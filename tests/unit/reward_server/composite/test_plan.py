"""What an operator may write as components, and the one line for what not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from assay.errors import StartupError
from assay.models.resolve import DEFAULT_MODEL
from reward_server.composite.plan import Weighing
from reward_server.preflight import preflight
from reward_server.settings import ServerSettings
from rule_package import write_rules
from serving import free_port
from toy import ToyScorer

SERVED = {"model": DEFAULT_MODEL}
RULE = {"rule": "regex", "options": {"pattern": "a"}}


def settings(home: Path, components: object, **changes: object) -> ServerSettings:
    text = components if isinstance(components, str) else json.dumps(components)
    given = {"home": home, "port": free_port(), "components": text, **changes}
    return ServerSettings(_env_file=None, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("components", "says"),
    [
        ("{", "components: Invalid JSON"),
        ("{}", "components: Input should be a valid array"),
        ([{"rule": "regex", "weight": float("inf")}], "0.weight: Input should be a finite number"),
        ('[{"rule": "regex", "weight": 1e999}]', "0.weight: Input should be a finite number"),
        ([SERVED, {"rule": "regex", "weight": 0}], "1: a weight of 0 adds nothing"),
        ([{"rule": "regex", "model": "a"}], "0: a component names either a model or a rule"),
        ([{"weight": 1}], "0: a component names either a model or a rule"),
        ([{"rule": "regex", "normalise": "calibration"}], "0: a rule has no calibration"),
        ([{"model": "a", "options": {"x": 1}}], "0: options are for rules"),
        ([{"model": "a", "wieght": 1}], "0.wieght: Extra inputs are not permitted"),
    ],
)
def test_components_that_cannot_be_read(tmp_path: Path, components: object, says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(tmp_path, components)
    (fault,) = refused.value.errors()
    assert says.removeprefix("components: ") in fault["msg"]
    assert fault["loc"] == ("components",)


@pytest.mark.parametrize(
    ("components", "says"),
    [
        ([RULE], 'components: 0 of them are the served model, and one has to be: write {"model": '),
        ([SERVED, {"model": f"{DEFAULT_MODEL}"}], "components: 2 of them are the served model"),
        ([SERVED, RULE, RULE], "components: 2 components are named regex"),
        ([SERVED, {"model": "other"}], "its version has to be named: other@7, say"),
        ([SERVED, {"model": "no model!"}], "components: a model is written name or name@7"),
        ([SERVED, {"model": "other@3"}], "component other@3: no reward model 'other@3'"),
        ([SERVED, {"rule": "no_such"}], "components: there is no rule no_such; there are"),
        (
            [SERVED, {"rule": "regex", "options": {"pattern": "(a"}}],
            "components: the options of the rule regex: pattern: no regular expression",
        ),
        ([SERVED, {"rule": "code_tests"}], "allow it by name with ASSAY_ALLOW_CODE=code_tests"),
    ],
)
def test_composites_that_cannot_be_are_refused_before_anything_starts(
    tmp_path: Path, components: object, says: str
) -> None:
    with pytest.raises(StartupError) as refused:
        preflight(settings(tmp_path, components))
    assert says in refused.value.detail
    assert "\n" not in refused.value.detail


def test_code_that_may_run_longer_than_a_rule_is_refused(tmp_path: Path) -> None:
    rule = {"rule": "code_tests", "options": {"time_s": 5}}
    chosen = settings(tmp_path, [SERVED, rule], allow_code="code_tests", rule_timeout_s=10)
    with pytest.raises(StartupError, match="twice the time_s 5 of the rule code_tests"):
        preflight(chosen)


def test_a_composite_that_can_be_passes(tmp_path: Path) -> None:
    components = [SERVED, {"model": f"{DEFAULT_MODEL}@1", "normalise": "calibration"}, RULE]
    ref = preflight(settings(tmp_path, components))
    assert str(ref) == f"{DEFAULT_MODEL}@1"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("by_length", None),
        ("not_a_rule", "the rule not_a_rule (operator_rules:not_a_rule) cannot be called"),
        ("missing", "the rule missing (operator_rules:missing) does not load: AttributeError"),
        ("exact_match", "the rule exact_match is shipped: rename the entry point"),
    ],
)
def test_entry_points_are_loaded_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, says: str | None
) -> None:
    monkeypatch.setenv("PYTHONPATH", write_rules(tmp_path), prepend=os.pathsep)
    chosen = settings(tmp_path, [SERVED, {"rule": rule}])
    if says is None:
        preflight(chosen)
        return
    with pytest.raises(StartupError) as refused:
        preflight(chosen)
    assert says in refused.value.detail


def test_normalised_by_calibration_a_score_is_divided_by_the_temperature() -> None:
    weighing = Weighing("rm", weight=3.0, normalise="calibration")
    assert weighing.factor(ToyScorer().card) == 1.5  # the toy's T is 2
    assert Weighing("rm", 3.0, "none").factor(ToyScorer().card) == 3.0
