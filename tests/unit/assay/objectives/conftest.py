"""Numbers read off figure 2 of arXiv 2401.06080: what an ensemble thinks of real labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

torch.set_num_threads(1)


@pytest.fixture
def group_means() -> Tensor:
    """Mean strength of 20 equal groups of the training pairs, weakest first."""
    return torch.tensor(
        [-1.22, -0.57, -0.33, -0.17, -0.03, 0.08, 0.18, 0.28, 0.39, 0.50]
        + [0.61, 0.73, 0.86, 1.0, 1.16, 1.35, 1.58, 1.88, 2.32, 3.42],
        dtype=torch.float64,
    )


@pytest.fixture
def group_stds() -> Tensor:
    """Mean population std of the members' differences in the same groups."""
    return torch.tensor(
        [0.33, 0.255, 0.23, 0.22, 0.21, 0.21, 0.215, 0.22, 0.22, 0.23]
        + [0.24, 0.25, 0.26, 0.28, 0.295, 0.31, 0.34, 0.37, 0.41, 0.55],
        dtype=torch.float64,
    )
