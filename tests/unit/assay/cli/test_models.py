"""`assay models` on a store in a folder, and against a server, in process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from assay.cli.main import app
from assay.models.resolve import DEFAULT_MODEL
from assay.registry.aliases import Aliases
from assay.registry.store import Store
from assay.schemas.refs import ModelRef
from saved_versions import save_version
from scripted_server import Answer, Received, ScriptedServer, problem, reply

PASSED = {"name": "accuracy_parent", "passed": True, "bound": "below 0.02", "detail": "0.004"}
LONGER = {"name": "length", "passed": False, "bound": "at most 0.1", "detail": "0.31 [more]"}
FEW = {"name": "enough_pairs", "passed": False, "detail": "900 pairs", "on_failure": "manual"}
DRIFT = {"name": "separation", "passed": False, "detail": "1.2", "on_failure": "report"}
GOOD = {"passed": True, "manual_only": True, "shift": "unverified", "rules": [PASSED, FEW, DRIFT]}
BAD = {"passed": False, "manual_only": False, "shift": "verified", "rules": [PASSED, LONGER]}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """`rm@1` serves, `rm@2` is a candidate, `rm@3` was rejected."""
    made: dict[int, dict[str, Any]] = {
        1: {},
        2: {"status": "candidate", "gate": GOOD, "parent": "rm@1", "updates": 40},
        3: {"status": "rejected", "gate": BAD, "parent": "rm@1", "metrics": {"j": 0.5}},
    }
    for number, fields in made.items():
        folder = tmp_path / "store" / "rm" / str(number)
        save_version(folder, ModelRef("rm", number), **fields)
    store = Store(str(tmp_path / "store"))
    store.write_aliases("rm", Aliases(epoch=1, serving=1, candidate=2, anchor=1))
    return tmp_path


@pytest.fixture
def invoke(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("ASSAY_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, ["models", *words])


Invoke = Callable[..., Result]


def rows(done: Result) -> list[list[str]]:
    lines = [line for line in done.output.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_list_shows_aliases_and_what_the_gate_said(invoke: Invoke) -> None:
    done = invoke("list", "rm")
    assert done.exit_code == 0, done.output
    assert rows(done) == [
        ["rm@1", "serving, anchor", "released", "2023-11-14 22:13", "", "", ""],
        [
            *("rm@2", "candidate", "candidate", "2023-11-14 22:13", "rm@1", "40"),
            "passed, by a person only, shift unverified",
        ],
        ["rm@3", "", "rejected", "2023-11-14 22:13", "rm@1", "", "failed: length"],
    ]


def test_a_version_is_shown_whole_on_a_narrow_terminal(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert f"│ {DEFAULT_MODEL}@1 │" in invoke("list").output


def test_without_a_name_all_models_are_listed(invoke: Invoke, home: Path) -> None:
    done = invoke("list", "--json")
    found = json.loads(done.output)
    assert [row["version"] for row in found] == [f"{DEFAULT_MODEL}@1", "rm@1", "rm@2", "rm@3"]
    assert found[2]["aliases"] == ["candidate"]


def test_a_damaged_version_does_not_hide_the_others(invoke: Invoke, home: Path) -> None:
    (home / "store" / "rm" / "2" / "manifest.json").write_text("{")
    found = json.loads(invoke("list", "rm", "--json").output)
    assert [row["status"] for row in found] == ["released", "damaged", "rejected"]
    assert "rm/2/manifest.json" in found[1]["fault"]
    assert "rm/2/manifest.json" in "".join(invoke("list", "rm").output.split())


def test_the_gate_is_shown_rule_by_rule(invoke: Invoke) -> None:
    done = invoke("show", "rm@3")
    assert done.exit_code == 0, done.output
    assert "gate         failed: length" in done.output
    assert rows(done) == [
        ["accuracy_parent", "passed", "below 0.02", "0.004"],
        ["length", "failed", "at most 0.1", "0.31 [more]"],
    ]
    assert '"j": 0.5' in done.output
    assert [row[1] for row in rows(invoke("show", "rm@2"))] == ["passed", "by a person", "reported"]


def test_a_name_alone_shows_what_serves(invoke: Invoke) -> None:
    assert "version      rm@1\nalias        serving, anchor\n" in invoke("show", "rm").output
    assert f"version      {DEFAULT_MODEL}@1" in invoke("show", DEFAULT_MODEL).output


def test_json_is_the_manifest(invoke: Invoke) -> None:
    said = json.loads(invoke("show", "rm@2", "--json").output)
    assert said["gate"] == GOOD
    assert said["aliases"] == ["candidate"]


def test_a_report_of_an_unknown_form_is_printed_as_it_is(invoke: Invoke, home: Path) -> None:
    save_version(home / "store" / "rm" / "4", ModelRef("rm", 4), gate={"verdict": "fine"})
    done = invoke("show", "rm@4")
    assert "a report of another release" in done.output
    assert '"verdict": "fine"' in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "nothing"], "has no version of nothing"),
        (["show", "nothing"], "has no version of nothing"),
        (["show", "rm@9"], "has no rm@9"),
        (["show", "rm@"], "a model is written name or name@7"),
        (["list", "../rm"], "is not the name of a model"),
        (["list", "--store", "gopher://x"], "a store is a folder"),
        (["gc", "nothing/x"], "is not the name of a model"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(invoke: Invoke, words: list[str], said: str) -> None:
    done = invoke(*words)
    assert done.exit_code == 1
    assert done.output.startswith(f"assay models {words[0]}: ")
    assert said in done.output
    assert done.output.count("\n") == 1


def test_gc_says_what_it_deletes_and_spares_what_is_in_use(invoke: Invoke, home: Path) -> None:
    for number in (4, 5):
        save_version(home / "store" / "rm" / str(number), ModelRef("rm", number))
    assert invoke("gc", "rm", "--keep", "1", "--dry-run").output == "would delete rm@3, rm@4\n"
    assert Store(str(home / "store")).versions("rm") == [1, 2, 3, 4, 5]
    assert invoke("gc", "rm", "--keep", "1").output == "deleted rm@3, rm@4\n"
    assert invoke("gc", "rm", "--keep", "1").output == "nothing to delete\n"
    assert Store(str(home / "store")).versions("rm") == [1, 2, 5]


def test_gc_does_not_guess_while_a_named_redis_is_down(invoke: Invoke, home: Path) -> None:
    done = invoke("gc", "rm", "--keep", "1", "--redis-url", f"unix://{home}/nothing.sock")
    assert done.exit_code == 1
    assert "Redis does not answer" in done.output
    assert Store(str(home / "store")).versions("rm") == [1, 2, 3]


def promotion(state: str, reason: str | None = None) -> Answer:
    body: dict[str, Any] = {
        "id": "p1",
        "model": "rm@2",
        "kind": "promote",
        "by": "person",
        "swap_when": "quiet",
        "state": state,
        "reason": reason,
        "epoch": 2,
        "created": 1.0,
        "replicas": ["a"],
    }
    return reply(body, 202 if state == "prepare" else 200)


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    """Starts servers on which a promotion comes to one state after another."""
    started: list[ScriptedServer] = []

    def start(*answers: Answer) -> ScriptedServer:
        left = list(answers)

        def script(_: Received) -> Answer:
            return left.pop(0)

        started.append(ScriptedServer(script))
        return started[-1]

    yield start
    for server in started:
        server.close()


def test_promote_asks_the_server_and_returns(
    invoke: Invoke, serve: Callable[..., ScriptedServer]
) -> None:
    server = serve(promotion("prepare"))
    done = invoke("promote", "rm@2", "--url", server.url, "--key", "sk", "--swap-when", "now")
    assert (done.exit_code, done.output) == (0, "rm@2: promote p1: prepare\n")
    (request,) = server.requests
    assert (request.method, request.path.partition("?")[0]) == ("POST", "/v1/models/rm@2/promote")
    assert "swap_when=now" in request.path
    assert request.headers["authorization"] == "Bearer sk"


def test_waiting_follows_a_promotion_to_its_end(
    invoke: Invoke, serve: Callable[..., ScriptedServer]
) -> None:
    server = serve(promotion("prepare"), promotion("prepare"), promotion("hold"), promotion("done"))
    done = invoke("promote", "rm@2", "--url", server.url, "--wait")
    assert done.exit_code == 0
    assert done.output == "rm@2: promote p1: prepare\nrm@2: hold\nrm@2: done\n"
    assert [r.path for r in server.requests[1:]] == ["/v1/promotions/p1"] * 3


def test_a_refusal_is_exit_code_1_and_its_reason(
    invoke: Invoke, serve: Callable[..., ScriptedServer]
) -> None:
    server = serve(promotion("prepare"), promotion("refused", "a: digest"))
    done = invoke("promote", "rm@2", "--url", server.url, "--wait")
    assert done.exit_code == 1
    assert "assay models promote: rm@2 was refused: a: digest" in done.output


def test_a_rollback_names_the_model(invoke: Invoke, serve: Callable[..., ScriptedServer]) -> None:
    server = serve(promotion("done"))
    assert invoke("rollback", "rm", "--url", server.url).exit_code == 0
    assert server.requests[0].path.partition("?")[0] == "/v1/models/rm/rollback"


def test_what_the_server_refuses_is_one_line(
    invoke: Invoke, serve: Callable[..., ScriptedServer]
) -> None:
    server = serve(problem(409, "conflict", "rm@2 is serving already"))
    done = invoke("promote", "rm@2", "--url", server.url)
    assert done.exit_code == 1
    assert done.output == "assay models promote: rm@2 is serving already\n"
    assert "rm@7, say" in invoke("promote", "rm", "--url", server.url).output
