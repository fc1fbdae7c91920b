"""`assay score` against a server, in process."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from assay.cli.main import app
from scripted_server import ScriptedServer, length_scores, problem
from serving import free_port


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer(length_scores)
    yield server
    server.close()


def test_the_table_shows_scores_and_completions(server: ScriptedServer) -> None:
    long = "[red]" + "word " * 60
    done = CliRunner().invoke(app, ["score", "p", "abc", long, "--url", server.url])
    assert done.exit_code == 0, done.output
    assert "toy@7" in done.output
    assert "3.0000" in done.output
    assert "[red]word" in done.output, "completions are text, not markup"
    assert max(map(len, done.output.splitlines())) <= 80


def test_json_is_the_reply_with_key_and_pin_sent(server: ScriptedServer) -> None:
    arguments = ["score", "p", "abc", "--json", "--model", "toy@7", "--key", "sk"]
    done = CliRunner().invoke(app, [*arguments, "--url", server.url])
    assert json.loads(done.output)["results"][0]["scores"] == [3.0]
    assert server.requests[0].headers["authorization"] == "Bearer sk"
    assert server.requests[0].body["model"] == "toy@7"


def test_an_error_is_one_line_and_exit_code_1() -> None:
    server = ScriptedServer(lambda _: problem(401, "unauthorized", "no such key"))
    try:
        done = CliRunner().invoke(app, ["score", "p", "abc", "--url", server.url])
    finally:
        server.close()
    assert done.exit_code == 1
    assert done.output.strip() == "assay score: no such key"


def test_without_a_server_it_says_how_to_get_one() -> None:
    port = free_port()
    done = CliRunner().invoke(app, ["score", "p", "abc", "--url", f"http://127.0.0.1:{port}"])
    assert done.exit_code == 1
    assert f"no answer from 127.0.0.1:{port}" in done.output
    assert "`assay up`" in done.output
