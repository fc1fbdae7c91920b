"""What detectors may know."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from assay.errors import DataError
from reproduction.detection import log_length_differences, refuse_other_labels
from reproduction.noise import turned

CLEAN = datasets.Dataset.from_list(
    [{"prompt": "p", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(6)]
)
NOISY = turned(CLEAN, np.array([True, True, False, False, False, False]))


def test_a_detector_that_saw_clean_labels_is_refused() -> None:
    with pytest.raises(DataError, match="2 of the pairs .* knows the clean labels"):
        refuse_other_labels(CLEAN, NOISY)


def test_a_detector_that_saw_a_part_of_the_noisy_labels_is_not() -> None:
    refuse_other_labels(NOISY.select([0, 3]), NOISY)


def test_length_is_compared_by_its_logarithm() -> None:
    table = datasets.Dataset.from_list([{"prompt": "p", "chosen": "abcd", "rejected": "a"}])

    assert log_length_differences(table).tolist() == pytest.approx([1.3862943611])  # ln 4
