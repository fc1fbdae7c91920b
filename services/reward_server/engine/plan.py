"""Which of the waiting texts go into the next forward pass: a pure decision."""

from __future__ import annotations

from collections.abc import Sequence


def plan_batch(lengths: Sequence[int], max_batch_tokens: int) -> list[int]:
    """Choose the micro-batch around the text that has waited longest.

    Rows are padded to the longest of the batch, so texts of like length go together: from the
    first text on, the batch grows by the neighbour that is closest in length, on either side of
    it, for as long as rows x longest stays within the budget.

    Args:
        lengths: tokens of each waiting text, longest-waiting first; at least one.
        max_batch_tokens: padded tokens that fit; a first text over it goes alone.

    Returns:
        Positions in `lengths`, the first text among them.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    below = above = order.index(0)
    longest = lengths[0]
    while True:
        shorter = lengths[0] - lengths[order[below - 1]] if below > 0 else None
        longer = lengths[order[above + 1]] - lengths[0] if above + 1 < len(order) else None
        if shorter is None and longer is None:
            break
        take_longer = shorter is None or (longer is not None and longer < shorter)
        widest = lengths[order[above + 1]] if take_longer else longest
        if (above - below + 2) * widest > max_batch_tokens:
            break
        if take_longer:
            above, longest = above + 1, widest
        else:
            below -= 1
    return order[below : above + 1]


def plan_window(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """All micro-batches of a window of texts that arrived together, in the order they run."""
    waiting = list(range(len(lengths)))
    batches = []
    while waiting:
        chosen = [waiting[i] for i in plan_batch([lengths[i] for i in waiting], max_batch_tokens)]
        batches.append(chosen)
        taken = set(chosen)
        waiting = [i for i in waiting if i not in taken]
    return batches
