"""RM-Bench, RewardBench and RewardBench 2 against loops written from their published rules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.errors import DataError
from reward_trainer.evaluate.reward_bench import is_reward_bench, reward_bench
from reward_trainer.evaluate.reward_bench_2 import credits, reward_bench_2
from reward_trainer.evaluate.rm_bench import rm_bench
from reward_trainer.evaluate.ties import Scored

Array = NDArray[np.float64]


def some_roots(number: int) -> list[str]:
    return [str(i) for i in range(number)]


def test_rm_bench_by_hand() -> None:
    """One prompt. Chosen 1, 2, 3 against rejected 2, 1, 0: rows (0 0 1), (0 1 1), (1 1 1)."""
    (row,) = rm_bench(["chat"], ["r"], np.array([[1.0, 2, 3]]), np.array([[2.0, 1, 0]]))
    assert row.matrix == [[0, 0, 1], [0, 1, 1], [1, 1, 1]]
    assert row.hard.value == pytest.approx((0 + 1 + 1) / 3)
    assert row.normal.value == pytest.approx((0 + 1 + 1) / 3)
    assert row.easy.value == pytest.approx((0 + 1 + 1) / 3)


def test_hard_is_where_the_rejected_style_is_the_fancier_one() -> None:
    """A model that scores by style alone is right when easy and never else."""
    scores = np.array([[1.0, 2.0, 3.0]] * 4)
    (row,) = rm_bench(["chat"] * 4, some_roots(4), scores, scores)
    assert (row.easy.value, row.normal.value, row.hard.value) == (1.0, 0.0, 0.0)
    assert row.average.value == pytest.approx(1 / 3)


def rm_bench_loop(chosen: Array, rejected: Array) -> dict[str, float]:
    counts = {"easy": 0, "normal": 0, "hard": 0}
    for good, poor in zip(chosen, rejected, strict=True):
        for i in range(3):
            for j in range(3):
                kind = "hard" if j > i else "normal" if j == i else "easy"
                counts[kind] += int(good[i] > poor[j])
    return {kind: count / (3 * len(chosen)) for kind, count in counts.items()}


def test_rm_bench_averages_domains_and_the_two_parts_of_safety_first() -> None:
    random = np.random.default_rng(2)
    domains = random.choice(
        ["chat", "code", "math", "safety-refuse", "safety-response"], size=80
    ).tolist()
    chosen = random.integers(6, size=(80, 3)).astype(float)
    rejected = random.integers(5, size=(80, 3)).astype(float)
    rows = {row.domain: row for row in rm_bench(domains, some_roots(80), chosen, rejected)}
    parts = {}
    for domain in set(domains):
        mask = np.array([name == domain for name in domains])
        parts[domain] = rm_bench_loop(chosen[mask], rejected[mask])
        assert rows[domain].prompts == mask.sum()
        assert rows[domain].hard.value == pytest.approx(parts[domain]["hard"])
        assert rows[domain].average.value == pytest.approx(np.mean(list(parts[domain].values())))
    for kind in ("easy", "normal", "hard"):
        safety = (parts["safety-refuse"][kind] + parts["safety-response"][kind]) / 2
        expected = (parts["chat"][kind] + parts["code"][kind] + parts["math"][kind] + safety) / 4
        found = getattr(rows["all"], kind)
        assert found.value == pytest.approx(expected)
        assert found.low < found.value < found.high


def test_reward_bench_weighs_subsets_and_averages_sections() -> None:
    """Chat: (100 * 1/2 + 28 * 1) / 128. Reasoning: (984 * 0 + 164 * 1) / 1148."""
    subsets = ["alpacaeval-easy", "alpacaeval-easy", "mt-bench-easy", "math-prm", "hep-go"]
    rows = reward_bench(subsets, some_roots(5), np.array([1.0, -1.0, 2.0, -1.0, 1.0]))
    found = {row.section: row for row in rows}
    chat, reasoning = (50 + 28) / 128, 164 / 1148
    assert list(found) == ["Chat", "Reasoning", "score"]
    assert found["Chat"].accuracy.value == pytest.approx(chat)
    assert found["Reasoning"].accuracy.value == pytest.approx(reasoning)
    assert found["score"].accuracy.value == pytest.approx((chat + reasoning) / 2)
    assert found["Chat"].missing == ["alpacaeval-length", "alpacaeval-hard", "mt-bench-med"]
    assert found["score"].missing == ["Chat Hard", "Safety", "Prior Sets"]
    assert (found["Chat"].pairs, found["score"].pairs) == (3, 5)


def test_prior_sets_weigh_half() -> None:
    subsets = ["mt-bench-hard", "shp", "summarize", "summarize", "summarize"]
    rows = reward_bench(subsets, some_roots(5), np.array([-1.0, 1.0, 1.0, -1.0, -1.0]))
    assert rows[1].accuracy.value == pytest.approx((1 + 1 / 3) / 2)
    assert rows[-1].accuracy.value == pytest.approx((0 + 0.5 * (1 + 1 / 3) / 2) / 1.5)


def test_a_tie_is_wrong_on_reward_bench() -> None:
    rows = reward_bench(["mt-bench-hard"] * 2, ["a", "b"], np.array([0.0, 1.0]))
    assert rows[0].accuracy.value == 0.5


def test_reward_bench_is_known_by_its_subsets() -> None:
    assert is_reward_bench({"hep-go", "donotanswer"})
    assert not is_reward_bench({"hep-go", "mine"})


def scored(
    subset: str, chosen: Sequence[float], rejected: Sequence[float], name: str = "1"
) -> Scored:
    return Scored(id=name, subset=subset, chosen=tuple(chosen), rejected=tuple(rejected))


def test_best_of_four_shares_a_first_place() -> None:
    prompts = [
        scored("Math", [2], [1, 0, 0]),
        scored("Math", [2], [2, 2, 0]),
        scored("Math", [1], [0, 2, 0]),
        scored("Focus", [1], [0, 0, 0]),
    ]
    assert credits(prompts).tolist() == pytest.approx([1, 1 / 3, 0, 1])
    math_row, focus, total = reward_bench_2(prompts, some_roots(4))
    assert math_row.score.value == pytest.approx(4 / 9)
    assert focus.score.value == 1.0
    assert (total.subset, total.prompts) == ("score", 4)
    assert total.score.value == pytest.approx((4 / 9 + 1) / 2)


def ties_loop(prompts: Sequence[Scored]) -> float:
    """The published rule, one prompt at a time."""
    stats: dict[str, dict[int, tuple[bool, float, float]]] = {"ref": {}, "tied": {}}
    for prompt in prompts:
        kind, number = prompt.id.split(":")
        gap = min(prompt.chosen) - max(prompt.rejected)
        stats[kind][int(number)] = (gap > 0, max(prompt.chosen) - min(prompt.chosen), gap)
    refs, ties = stats["ref"], stats["tied"]
    both = [n for n in ties if n in refs]
    preferred = [ties[n][2] > ties[n][1] for n in both]
    hard = [min(refs[n][2], ties[n][2]) > ties[n][1] for n in both]
    margins = []
    for n in both:
        least, spread = min(refs[n][2], ties[n][2]), ties[n][1]
        if spread == 0:
            margins.append(0.0 if least == 0 else math.copysign(1.0, least))
        else:
            margins.append(math.tanh(least / spread - 1))
    return float(
        0.3 * np.mean([s[0] for s in ties.values()])
        + 0.3 * np.mean([s[0] for s in refs.values()])
        + 0.2 * np.mean(preferred)
        + 0.2 * np.mean(hard)
        + 0.01 * np.mean(margins)
    )


def test_ties_equal_a_loop_over_the_published_rule() -> None:
    random = np.random.default_rng(4)
    prompts = []
    for number in range(12):
        good, poor = random.normal(1, 0.4, size=4), random.normal(0, 0.4, size=5)
        prompts.append(scored("Ties", good.tolist(), poor.tolist(), f"tied:{number}"))
        prompts.append(scored("Ties", [float(random.normal(1))], poor.tolist(), f"ref:{number}"))
    prompts.append(scored("Ties", [1, 1], [0, 0], "tied:12"))
    prompts.append(scored("Ties", [1], [1], "ref:12"))
    prompts.append(scored("Ties", [1, 1], [0, 0.5], "tied:13"))
    prompts.append(scored("Ties", [1], [2], "ref:13"))
    prompts.append(scored("Ties", [1], [0], "ref:14"))  # without its tied one
    (row,) = reward_bench_2(prompts, ["same"] * len(prompts))
    assert row.score.value == pytest.approx(ties_loop(prompts))
    assert row.score.low is not None, "both prompts of an N are one root, of which there are many"
    assert credits(prompts)[0] == float(min(prompts[0].chosen) > max(prompts[0].rejected))


@pytest.mark.parametrize(
    ("names", "named"),
    [(["tied:1", "ref:2"], "no N with both"), (["tied:1", "other"], "neither ref:N nor tied:N")],
)
def test_ties_without_their_pairs_are_refused(names: list[str], named: str) -> None:
    prompts = [scored("Ties", [1, 1], [0], name) for name in names]
    with pytest.raises(DataError, match=named):
        reward_bench_2(prompts, some_roots(2))
