"""The sum of a composite, against numbers by hand."""

from __future__ import annotations

import numpy as np

from assay.rewards.composite import Part, blend


def test_the_components_sum_to_the_score_and_spread_is_the_ensembles() -> None:
    ensemble = Part("rm", 2.0, np.array([[1.0, 3.0], [0.0, -1.0]]))
    other = Part("other@3", 0.5, np.array([[4.0], [2.0]]))
    rule = Part("length_penalty", 3.0, np.array([[-1.0], [0.0]]))
    total = blend([ensemble, other, rule])
    # text 0: 2*1 + .5*4 + 3*-1 = 1 and 2*3 + 2 - 3 = 5; text 1: 0 + 1 + 0 and -2 + 1 + 0
    assert total.scores.tolist() == [[1.0, 5.0], [1.0, -1.0]]
    assert {name: values.tolist() for name, values in total.components.items()} == {
        "rm": [4.0, -1.0],
        "other@3": [2.0, 1.0],
        "length_penalty": [-3.0, 0.0],
    }
    assert sum(total.components.values()).tolist() == total.scores.mean(axis=1).tolist()  # type: ignore[union-attr]
    assert total.scores.std(axis=1).tolist() == [2.0, 1.0]  # twice the ensemble's
    assert not total.absent.any()


def test_a_text_that_one_part_gives_no_score_has_none() -> None:
    total = blend(
        [Part("rm", 1.0, np.array([[1.0], [2.0]])), Part("rule", 1.0, np.array([[np.nan], [0.5]]))]
    )
    assert total.absent.tolist() == [True, False]
    assert total.scores.tolist() == [[0.0], [2.5]]
    assert np.isfinite(total.components["rule"]).all()
