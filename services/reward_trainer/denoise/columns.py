"""The columns that denoising adds to a table.

`margin` is what TRL's RewardTrainer reads; `smoothing` is read by `assay fit` alone.
"""

from __future__ import annotations

ACTION = "denoise_action"
FLIPPED = "denoise_flipped"
POLICY = "denoise_policy"
MODEL = "denoise_model"
ROW = "denoise_row"
ROWS = "denoise_rows"
COPY = "denoise_copy"
MARGIN = "margin"
SMOOTHING = "smoothing"
