"""One rank of a process group of two: batch margins and ranking losses on its share of batches.

    python rank.py STORE RANK SHARES

STORE is a file that both ranks meet in, SHARES a JSON list of lists of differences. Prints, for
every share and margin, the margins and the gradient of the rank's own mean loss, as JSON.
"""

from __future__ import annotations

import json
import sys

import torch
from torch import distributed

from assay.objectives.margins import batch_mean, batch_threshold
from assay.objectives.ranking import ranking_loss

store, rank, shares = sys.argv[1:]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=2)
found = []
for share in json.loads(shares):
    for batch_margin in (batch_mean, batch_threshold):
        differences = torch.tensor(share, requires_grad=True)
        margin = batch_margin(differences, cap=9.0)
        loss = ranking_loss(differences, torch.zeros(len(share)), margin=margin, reduction="mean")
        (gradient,) = torch.autograd.grad(loss, differences)
        found.append([margin.tolist(), gradient.tolist()])
distributed.destroy_process_group()
sys.stdout.write(json.dumps(found))
