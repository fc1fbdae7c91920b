"""Candidates as functions of the text: which rule stops which, and what the report says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from hashlib import sha256

import pytest

from assay.errors import InvalidInputError, ScoringError
from assay.schemas.models import Calibration
from reward_trainer.gate.data import GateData
from reward_trainer.gate.evaluate import NAMES, evaluate
from reward_trainer.gate.measuring import measure
from reward_trainer.gate.report import GateReport
from text_scorer import Score, TextScorer

from .conftest import worth


def chance(text: str) -> float:
    """A number in [0, 1) that a text has nothing to do with."""
    return sha256(text.encode()).digest()[0] / 256


def good(prompt: str, text: str) -> float:
    """Right but for noise, so that there is something to lose."""
    return 8 * worth(text) + chance(text)


def scorer(score: Score) -> TextScorer:
    return TextScorer(score, lambda prompt, text: 1.1 * score(prompt, text))


def calibrated(score: Score) -> TextScorer:
    calibration = Calibration(
        pairs=9, offsets=[0.0, 0.0], temperature=1.0, quantiles=[-1.0, 1.0], digest="d"
    )
    return TextScorer(score, score, calibration=calibration)


def failed(candidate: Score, data: GateData, parent: Score = good) -> set[str]:
    report = evaluate(scorer(candidate), scorer(parent), scorer(good), data)
    return {rule.name for rule in report.rules if not rule.passed}


def test_the_parent_itself_passes_every_rule(data: GateData) -> None:
    report = evaluate(scorer(good), scorer(good), scorer(good), data)

    assert [rule.name for rule in report.rules] == list(NAMES)
    assert report.passed
    assert not report.manual_only
    assert report.shift == "verified"
    assert report.reasons == []


def test_random_scores_are_no_accuracy(data: GateData) -> None:
    assert {"accuracy_parent", "accuracy_anchor"} <= failed(lambda p, t: 3 * chance(t), data)


def test_an_inflated_scale_is_stopped_by_the_scale_alone(data: GateData) -> None:
    assert failed(lambda p, t: 2 * good(p, t) - 4.5, data) == {"score_std"}


def test_a_moved_mean_is_stopped_by_the_mean_alone(data: GateData) -> None:
    assert failed(lambda p, t: good(p, t) + 1, data) == {"score_mean"}


def test_the_offset_of_a_calibration_is_no_move_of_the_mean(data: GateData) -> None:
    """Each version is centred on calibration pairs of its own: only what samples gain counts."""

    def fond_of_samples(prompt: str, text: str) -> float:
        return good(prompt, text) + 3 + (1 if prompt.startswith("sample") else 0)

    moved = {
        name: evaluate(calibrated(score), calibrated(good), calibrated(good), data)
        for name, score in {"offset": lambda p, t: good(p, t) + 3, "fond": fond_of_samples}.items()
    }

    assert moved["offset"].passed
    assert [reason.split(":")[0] for reason in moved["fond"].reasons] == ["score_mean"]


def test_centred_versions_without_samples_have_no_mean_to_compare(data: GateData) -> None:
    report = evaluate(
        calibrated(lambda p, t: good(p, t) + 3),
        calibrated(good),
        calibrated(good),
        replace(data, groups=()),
    )

    assert report.passed
    assert next(rule.value for rule in report.rules if rule.name == "score_mean") is None


def test_a_preference_for_length_is_stopped_by_the_length_rule(data: GateData) -> None:
    """As accurate as the others: what they have of noise, it has of length."""

    def longer(_: str, text: str) -> float:
        return 8 * worth(text) + 0.03 * (len(text) - 10)

    assert failed(longer, data) == {"length_correlation"}


def test_scores_that_part_no_samples_are_stopped_by_their_differences(data: GateData) -> None:
    def alike(prompt: str, text: str) -> float:
        return 4.0 if prompt.startswith("sample") else good(prompt, text)

    assert failed(alike, data) == {"relative_difference"}


def test_one_that_is_inverted_on_recent_samples_is_stopped_by_the_probe(data: GateData) -> None:
    def inverted(prompt: str, text: str) -> float:
        return 8 - good("", text) if prompt.startswith("recent") else good(prompt, text)

    assert failed(inverted, data) == {"probe_parent", "probe_anchor"}
    assert failed(inverted, replace(data, probe=())) == set()


def test_twenty_candidates_each_slightly_worse_are_stopped_by_the_anchor(data: GateData) -> None:
    """Each looks harmless beside its parent, which is the one before."""

    def worse(step: int) -> Score:
        return lambda p, t: 8 * worth(t) + chance(t) + 0.25 * step * (chance(p + t) - 0.5)

    anchor = measure(scorer(worse(0)), data)
    parent, step, report = anchor, 0, None
    while step < 20 and (report is None or report.passed):
        step += 1
        candidate = measure(scorer(worse(step)), data)
        report = evaluate(candidate, parent, anchor, data)
        parent = candidate

    assert 1 < step < 20
    assert report is not None
    assert [reason.split(":")[0] for reason in report.reasons] == ["accuracy_anchor"]


def test_a_score_that_is_no_number_rejects_and_nothing_else_is_judged(data: GateData) -> None:
    report = evaluate(
        scorer(lambda p, t: math.nan if p == "question 7" else good(p, t)),
        scorer(good),
        scorer(good),
        data,
    )

    assert not report.passed
    assert report.reasons == ["finite: 2 of 3,280 texts have a score that is not finite"]
    assert [rule.name for rule in report.rules] == list(NAMES)


def test_a_parent_without_numbers_is_an_error(data: GateData) -> None:
    with pytest.raises(ScoringError, match="old@1 gives scores that are not finite"):
        evaluate(scorer(good), TextScorer(lambda p, t: math.inf, name="old@1"), scorer(good), data)


def test_few_pairs_leave_it_to_a_person(data: GateData) -> None:
    report = evaluate(scorer(good), scorer(good), scorer(good), replace(data, held=data.held[:100]))

    assert report.passed
    assert report.manual_only


def test_without_any_evidence_nothing_is_rejected_and_a_person_decides() -> None:
    report = evaluate(scorer(good), scorer(good), scorer(good), GateData([], []))

    assert report.passed
    assert report.manual_only
    assert report.shift == "unverified"
    assert [rule.name for rule in report.rules] == list(NAMES)


@pytest.mark.parametrize(("trained", "by_a_person"), [(20, False), (400, True)])
def test_an_old_lineage_without_any_held_out_group_is_left_to_a_person(
    trained: int, by_a_person: bool, data: GateData
) -> None:
    alone = replace(data, groups=(), groups_trained=trained)
    report = evaluate(calibrated(good), calibrated(good), calibrated(good), alone)

    unmeasured = [rule.name for rule in report.rules if rule.value is None]
    assert unmeasured == ["separation", "relative_difference", "score_mean"]
    assert report.passed
    assert report.manual_only is by_a_person


def test_samples_of_the_probe_that_are_trained_on_are_named(data: GateData) -> None:
    def said(data: GateData) -> str:
        report = evaluate(scorer(good), scorer(good), scorer(good), data)
        return next(rule.detail for rule in report.rules if rule.name == "probe_parent")

    out = "7 are left out, as their conversations are trained on"
    assert out in said(replace(data, probe_trained=7))
    assert out in said(replace(data, probe=(), probe_trained=7))


def test_without_a_probe_the_shift_is_unverified(data: GateData) -> None:
    report = evaluate(scorer(good), scorer(good), scorer(good), replace(data, probe=()))

    assert report.passed
    assert not report.manual_only
    assert report.shift == "unverified"


def test_a_probe_must_clear_the_candidate_beside_both_versions(data: GateData) -> None:
    """As good as a parent that may be worse than the anchor is not enough."""

    def shaken(prompt: str, text: str) -> float:
        noise = 2.5 * chance(text[::-1]) if prompt.startswith("recent") else 0
        return good(prompt, text) + noise

    report = evaluate(scorer(shaken), scorer(shaken), scorer(good), data)

    assert report.passed
    assert report.shift == "unverified"


def test_versions_that_were_measured_are_not_scored_again(data: GateData) -> None:
    parent = measure(scorer(good), data)

    kept = evaluate(scorer(good), parent, parent, data)

    assert kept == evaluate(scorer(good), scorer(good), scorer(good), data)


def test_a_measurement_of_other_data_is_refused(data: GateData) -> None:
    other = measure(scorer(good), replace(data, probe=()))

    with pytest.raises(InvalidInputError, match="texts@1 was measured on other data"):
        evaluate(scorer(good), other, other, data)


def test_the_report_goes_through_json(data: GateData) -> None:
    report = evaluate(scorer(lambda p, t: 2 * good(p, t)), scorer(good), scorer(good), data)

    assert GateReport.model_validate(json.loads(json.dumps(report.to_manifest()))) == report
    assert not report.passed
