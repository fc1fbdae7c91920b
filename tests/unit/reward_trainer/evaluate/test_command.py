"""`assay evaluate` from its arguments to its report, with a server whose score is the length."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner, Result

from reward_trainer.evaluate.command import command
from reward_trainer.evaluate.report import Report
from reward_trainer.evaluate.run import EvaluateSettings, evaluate
from scripted_server import Answer, Received, ScriptedServer, reply

Script = Callable[[Received], Answer]
Serve = Callable[[Script], ScriptedServer]
app = typer.Typer()
app.command()(command)
# Prompt, chosen, rejected: a model that goes by length is right, wrong, right, and ties.
ROWS = [
    {"prompt": "A?", "chosen": "longer", "rejected": "short", "subset": "x", "gpt": 1, "crowd": 1},
    {"prompt": "B?", "chosen": "small", "rejected": "larger", "subset": "x", "gpt": 0, "crowd": 0},
    {"prompt": "C?", "chosen": "enough", "rejected": "no", "subset": "y", "gpt": 1, "crowd": 0},
    {"prompt": "D?", "chosen": "same", "rejected": "size", "subset": "y", "gpt": -1, "crowd": 1},
]


@pytest.fixture
def server(serve: Serve, assay_server: Script) -> ScriptedServer:
    return serve(assay_server)


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_the_report_of_a_server_by_hand(tmp_path: Path, server: ScriptedServer) -> None:
    out = tmp_path / "report.json"
    done = run(write(tmp_path, ROWS), "--url", server.url, "--key", "sk", "--out", str(out))
    assert done.exit_code == 0, done.output
    report = Report.model_validate_json(out.read_text())
    assert "sk" not in out.read_text().replace("risk", "")
    (model,) = report.models
    assert (model.name, model.members, model.texts) == ("toy@7", 1, 8)
    assert model.results.kind == "pairs"
    found = {row.subset: row for row in model.results.accuracy}
    assert found["x"].accuracy.value == 0.5
    assert found["y"].accuracy.value == 0.75
    assert found["all"].accuracy.value == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert found["all"].gain.value == 0.0  # the length rule is this very model
    assert model.results.length.prefers_longer is not None
    assert model.results.length.prefers_longer.value == 1.0
    calibration = model.results.calibration
    assert calibration.temperature == 0.5  # so differences of 1, -1, 4 and 0 count twice
    folded = [1 / (1 + math.exp(-x)) for x in (2, 2, 8, 0)]
    assert calibration.overconfidence.value == pytest.approx(sum(folded) / 4 - 2.5 / 4)
    assert report.data.rows == report.data.roots == 4
    assert "toy@7" in done.output
    assert all(request.headers["authorization"] == "Bearer sk" for request in server.requests)


def test_markdown_and_terminal_tables_show_the_same(tmp_path: Path, server: ScriptedServer) -> None:
    path = write(tmp_path, [{**row, "subset": "[red]b|c"} for row in ROWS])
    drawn, markdown = (run(path, "--url", server.url, *extra) for extra in ((), ("--markdown",)))
    assert "[red]b|c" in drawn.output, "names are text, not markup"
    assert "| [red]b\\|c | 4 | 4 | .625 [" in markdown.output
    assert markdown.output.count("\n| --- | ---: |") == 3


def test_two_models_are_compared_pair_by_pair(
    tmp_path: Path, server: ScriptedServer, serve: Serve, assay_server: Script
) -> None:
    def shorter(request: Received) -> Answer:
        answer = assay_server(request)
        if request.path != "/v1/score":
            return answer
        body = json.loads(answer.body)
        for result in body["results"]:
            result["scores"] = [-score for score in result["scores"]]
        return reply(body)

    second = serve(shorter)
    settings = EvaluateSettings(
        data=write(tmp_path, ROWS), url=server.url, against=second.url, labels=("gpt",)
    )
    report = evaluate(settings)
    places = [url.removeprefix("http://") for url in (server.url, second.url)]
    assert [model.name for model in report.models] == [f"toy@7 ({place})" for place in places]
    assert report.comparison is not None
    rows = {row.subset: row for row in report.comparison}
    assert rows["all"].difference.value == pytest.approx((1 - 1 + 1 + 0) / 4)
    assert (rows["all"].only_first, rows["all"].only_second) == (2, 1)
    assert report.raters is not None
    assert [row.name for row in report.raters.raters][0] == "gpt"
    kappas = [row.kappa and row.kappa.value for row in report.raters.agreement]
    assert kappas == [1.0, pytest.approx(cohen_kappa_score([1, 0, 1], [0, 1, 0])),
                      pytest.approx(cohen_kappa_score([1, 0, 1], [0, 1, 0]))]  # fmt: skip


def test_a_model_against_itself_differs_nowhere(tmp_path: Path, server: ScriptedServer) -> None:
    settings = EvaluateSettings(data=write(tmp_path, ROWS), url=server.url, against=server.url)
    report = evaluate(settings)
    assert [model.name for model in report.models] == ["toy@7 (1)", "toy@7 (2)"]
    assert report.comparison is not None
    estimate = report.comparison[-1].difference
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)


def test_label_columns_need_no_model(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    done = run(write(tmp_path, ROWS), "--labels", "gpt", "--labels", "crowd", "--out", str(out))
    assert done.exit_code == 0, done.output
    report = Report.model_validate_json(out.read_text())
    assert (report.models, report.comparison) == ([], None)
    assert report.raters is not None
    (pair,) = report.raters.agreement
    assert pair.pairs == 3
    assert pair.kappa is not None
    assert pair.kappa.value == pytest.approx(cohen_kappa_score([1, 0, 1], [1, 0, 0]))
    assert "Cohen's kappa" in done.output


def test_rm_bench_goes_by_its_own_rules(tmp_path: Path, server: ScriptedServer) -> None:
    """Rejected styles are one character longer than chosen ones of the same style."""
    row = {"prompt": "p", "chosen": ["a", "aaa", "aaaaa"], "rejected": ["bb", "bbbb", "bbbbbb"]}
    rows = [{**row, "prompt": f"{i}?", "domain": name} for i, name in enumerate(("chat", "math"))]
    report = evaluate(EvaluateSettings(data=write(tmp_path, rows), url=server.url))
    (model,) = report.models
    assert model.results.kind == "rm-bench"
    total = model.results.rows[-1]
    assert (total.easy.value, total.normal.value, total.hard.value) == (1.0, 0.0, 0.0)
    assert model.results.longer == model.results.rows
    done = run(write(tmp_path, rows), "--url", server.url)
    assert "longer text alone" in done.output
    assert "1.000" in done.output


def test_reward_bench_1_and_2_go_by_their_own_rules(tmp_path: Path, server: ScriptedServer) -> None:
    row = {"num_correct": 1, "prompt": "p", "subset": "Focus", "id": "1"}
    rows = [
        {**row, "prompt": "p1", "chosen": ["long one"], "rejected": ["a", "b", "c"]},
        {**row, "prompt": "p2", "chosen": ["two"], "rejected": ["one", "c", "d"]},
    ]
    report = evaluate(EvaluateSettings(data=write(tmp_path, rows), url=server.url))
    assert report.models[0].results.kind == "reward-bench-2"
    assert report.models[0].results.rows[0].score.value == (1 + 1 / 2) / 2
    assert "RewardBench 2" in run(write(tmp_path, rows), "--url", server.url).output

    pairs = [{**row, "subset": "hep-go"} for row in ROWS]
    report = evaluate(EvaluateSettings(data=write(tmp_path, pairs), url=server.url))
    assert report.models[0].results.kind == "pairs"
    bench = report.models[0].results.reward_bench
    assert bench is not None
    assert bench[-1].accuracy.value == 0.5  # a tie is wrong there
    assert "RewardBench" in run(write(tmp_path, pairs), "--url", server.url).output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "nothing to evaluate: name a model"),
        (["--labels", "gpt"], "nothing to evaluate"),
        (["--against", "assay-minilm"], "--against needs a first model"),
        (["--labels", "gpt", "--labels", "gpt"], "--labels names a column twice"),
        (["--labels", "gpt", "--labels", "human"], "no label column 'human': beside the pairs"),
        (["--labels", "gpt", "--labels", "subset"], "row 1: column 'subset' holds 'x'"),
        (["--model", "nothing"], "no reward model 'nothing'"),
        (["--url", "http://127.0.0.1:1", "--subset", "z"], "no column 'z' for the subsets"),
        (["--url", "http://127.0.0.1:1", "--group", "z"], "no column 'z' to group by"),
        (["--url", "nowhere"], "url"),
        (["--model", "nothing", "--out", "/nowhere/report.json"], "there is no folder /nowhere"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], named: str
) -> None:
    done = run(write(tmp_path, ROWS), *arguments)
    assert done.exit_code == 2
    assert done.output.startswith("assay evaluate: ")
    assert named in done.output
    assert len(done.output.splitlines()) == 1


def test_labels_of_a_benchmark_are_refused(tmp_path: Path) -> None:
    row = {"prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "chat"}
    done = run(write(tmp_path, [row]), "--labels", "a", "--labels", "b")
    assert "labels are of preference pairs" in done.output


def test_a_report_that_cannot_be_written_is_still_shown(
    tmp_path: Path, server: ScriptedServer
) -> None:
    done = run(write(tmp_path, ROWS), "--url", server.url, "--out", "/dev/full")
    assert done.exit_code == 2
    assert "Accuracy: toy@7" in done.output
    assert "cannot be written to /dev/full: No space left" in done.output
