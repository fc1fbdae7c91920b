"""A report as the tables that a person reads."""

from __future__ import annotations

from collections.abc import Iterator

from reward_trainer.evaluate.calibration import CalibrationBin, FoldedCalibration
from reward_trainer.evaluate.length import LengthBin, ScoreByLength
from reward_trainer.evaluate.report import (
    ModelReport,
    Raters,
    Report,
    RewardBench2Results,
    RmBenchResults,
)
from reward_trainer.evaluate.reward_bench import RewardBenchRow
from reward_trainer.evaluate.tables import Cells, Table, accuracy_table, make_table, share, show

_FEW_ROOTS = 10


def heading(report: Report) -> str:
    """What was evaluated, in a line or two."""
    data = report.data
    unit = "pairs" if data.kind == "pairs" else "prompts"
    roots = "conversation roots" if data.group == "root" else f"values of {data.group}"
    lines = [
        f"{data.location}: {data.rows:,} {unit}",
        f"intervals: 95 %, by bootstrap over {data.roots:,} {roots}",
    ]
    if data.roots < _FEW_ROOTS:
        lines[-1] += ", which are so few that they come out too narrow"
    return "\n".join(lines)


def tables(report: Report) -> Iterator[Table]:
    """All tables of a report, models first."""
    for model in report.models:
        yield from _model(model)
    if report.comparison is not None:
        first, second = (model.name for model in report.models)
        columns: Cells = {
            "subset": lambda row: row.subset,
            "pairs" if report.data.kind == "pairs" else "prompts": lambda row: f"{row.pairs:,}",
            "roots": lambda row: f"{row.roots:,}",
            "first": lambda row: share(row.first),
            "second": lambda row: share(row.second),
            "first - second": lambda row: show(row.difference, sign="+"),
            "only first right": lambda row: f"{row.only_first:,}",
            "only second right": lambda row: f"{row.only_second:,}",
        }
        title = f"Paired comparison: first = {first}, second = {second}"
        yield make_table(title, columns, report.comparison)
    if report.raters is not None:
        yield from _raters(report.raters)


def _model(model: ModelReport) -> Iterator[Table]:
    results, name = model.results, model.name
    if model.truncated:
        cut = f"{model.truncated:,} of {model.texts:,} texts cut to {model.max_tokens:,} tokens"
        name = f"{name}; {cut}"
    if results.kind == "pairs":
        yield accuracy_table(f"Accuracy: {name}", results.accuracy)
        if results.reward_bench is not None:
            yield _reward_bench(f"RewardBench: {name}", results.reward_bench)
        yield _calibration(f"Calibration: {model.name}", results.calibration)
        yield _length(f"Score by length: {model.name}", results.length)
    elif results.kind == "rm-bench":
        yield _rm_bench(f"RM-Bench: {name}", results)
    else:
        yield _reward_bench_2(f"RewardBench 2: {name}", results)


def _reward_bench(title: str, rows: list[RewardBenchRow]) -> Table:
    columns: Cells = {
        "section": lambda row: row.section,
        "pairs": lambda row: f"{row.pairs:,}",
        "accuracy": lambda row: show(row.accuracy),
        "missing": lambda row: ", ".join(row.missing),
    }
    return make_table(title, columns, rows, "equal scores count as wrong, as on the leaderboard")


def _calibration(title: str, found: FoldedCalibration) -> Table:
    def rate(value: float | None) -> str:
        return "" if value is None else share(value)

    columns: Cells = {
        "probability of the preferred side": lambda row: f"{share(row.low)} - {share(row.high)}",
        "pairs": lambda row: f"{row.pairs:,}",
        "mean probability": lambda row: rate(row.probability),
        "how often right": lambda row: rate(row.frequency),
    }
    kept: list[CalibrationBin] = [row for row in found.bins if row.pairs]
    note = (
        f"calibration error {share(found.error)}; mean probability minus share right "
        f"{show(found.overconfidence, sign='+')}; temperature {found.temperature:.3g}"
    )
    return make_table(title, columns, kept, note)


def _length(title: str, found: ScoreByLength) -> Table:
    def number(value: float | None) -> str:
        return "undefined" if value is None else share(value, sign="+")

    columns: Cells = {
        "characters": _characters,
        "texts": lambda row: f"{row.texts:,}",
        "mean score": lambda row: f"{row.mean:.3f}",
        "std": lambda row: f"{row.std:.3f}",
    }
    note = (
        f"rank correlation of score and length: {number(found.correlation)} over texts, "
        f"{number(found.within_pairs)} within pairs\n"
        f"the model prefers the longer text in {show(found.prefers_longer)} of the pairs, "
        f"and it is the chosen one in {show(found.longer_wins)}"
    )
    return make_table(title, columns, found.bins, note)


def _characters(row: LengthBin) -> str:
    return f"{row.shortest:,} - {row.longest:,}"


def _rm_bench(title: str, results: RmBenchResults) -> Table:
    columns: Cells = {
        "domain": lambda row: row.domain,
        "prompts": lambda row: f"{row.prompts:,}",
        "easy": lambda row: show(row.easy),
        "normal": lambda row: show(row.normal),
        "hard": lambda row: show(row.hard),
        "average": lambda row: show(row.average),
    }
    total = results.rows[-1]
    longer = results.longer[-1].model_copy(update={"domain": "longer text alone"})
    styles = ("concise", "detailed", "markdown")
    lines = [
        f"chosen {style}: " + ", ".join(f"{share(v)} {s}" for v, s in zip(row, styles, strict=True))
        for style, row in zip(styles, total.matrix, strict=True)
    ]
    note = f"{total.domain}, chosen style above rejected style:\n" + "\n".join(lines)
    return make_table(title, columns, [*results.rows, longer], note)


def _reward_bench_2(title: str, results: RewardBench2Results) -> Table:
    longer = {row.subset: row for row in results.longer}
    columns: Cells = {
        "subset": lambda row: row.subset,
        "prompts": lambda row: f"{row.prompts:,}",
        "score": lambda row: show(row.score),
        "longest text alone": lambda row: share(longer[row.subset].score.value),
    }
    return make_table(title, columns, results.rows)


def _raters(found: Raters) -> Iterator[Table]:
    columns: Cells = {
        "rater": lambda row: row.name,
        "pairs": lambda row: f"{row.pairs:,}",
        "says chosen": lambda row: show(row.says_chosen),
    }
    yield make_table("Raters", columns, found.raters)
    columns = {
        "first": lambda row: row.first,
        "second": lambda row: row.second,
        "pairs": lambda row: f"{row.pairs:,}",
        "agreement": lambda row: show(row.agreement),
        "by chance": lambda row: "" if row.chance is None else share(row.chance),
        "Cohen's kappa": lambda row: "undefined" if row.kappa is None else show(row.kappa, "+"),
    }
    yield make_table("Agreement", columns, found.agreement)
