from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress

from assay.errors import (
    AssayError,
    MalformedRequestError,
    ModelNotFoundError,
    NotFoundError,
    ScoringError,
    ServerUnreachableError,
)
from assay.models.loading import load
from reward_trainer.evaluate.scoring import Scores, Text, opened
from scripted_server import Answer, Received, ScriptedServer, problem, reply
from tiny_models import save_family

torch.set_num_threads(1)
TEXTS = [Text("Which?", "x" * (1 + i % 17), f"row {i + 1}, chosen") for i in range(40)]


def scores_of(model: str | None, url: str | None = None) -> Scores:
    with Progress(console=Console(file=io.StringIO())) as progress, opened(model, url=url) as score:
        return score(TEXTS, progress)


Script = Callable[[Received], Answer]
Serve = Callable[[Script], ScriptedServer]


def test_a_folder_is_scored_as_each_text_alone_is(tmp_path: Path) -> None:
    folder = save_family("llama", tmp_path / "toy")
    found = scores_of(str(folder))
    model = load(str(folder))
    alone = [model.score([model.encode(text.prompt, text.completion)])[0, 0] for text in TEXTS]
    np.testing.assert_allclose(found.values[:, 0], alone, atol=1e-4)
    assert (found.model, found.temperature, found.truncated) == ("toy@1", 1.0, 0)


def test_texts_that_were_cut_are_counted(tmp_path: Path) -> None:
    folder = save_family("bert", tmp_path / "toy")  # 128 tokens
    text = Text("p" * 500, "c", "row 1, chosen")
    with Progress(console=Console(file=io.StringIO())) as progress, opened(str(folder)) as score:
        found = score([text, *TEXTS], progress)
    assert (found.max_tokens, found.truncated) == (128, 1)


def test_a_text_that_the_model_refuses_is_named(tmp_path: Path) -> None:
    from assay.schemas.text import Message

    folder = save_family("gemma2", tmp_path / "toy")
    system = [Message(role="system", content="s"), Message(role="user", content="u")]
    with (
        Progress(console=Console(file=io.StringIO())) as progress,
        opened(str(folder)) as score,
        pytest.raises(MalformedRequestError, match="row 9, rejected: the model's chat template"),
    ):
        score([Text(system, "c", "row 9, rejected")], progress)


def test_weights_that_give_nan_are_named(tmp_path: Path) -> None:
    folder = save_family("bert", tmp_path / "toy")
    model = load(str(folder))
    with torch.no_grad():
        model.members.heads()[0].bias.fill_(float("nan"))
    model.members.poolers[0].model.save_pretrained(folder)  # type: ignore[attr-defined]
    with pytest.raises(ScoringError, match=r"row 1, chosen: the score is not finite \(40 such"):
        scores_of(str(folder))


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ModelNotFoundError, match="no reward model 'nothing'"):
        scores_of("nothing")


def test_a_server_scores_in_order_with_its_temperature(serve: Serve, assay_server: Script) -> None:
    server = serve(assay_server)
    found = scores_of(None, server.url)
    assert found.values[:, 0].tolist() == [float(len(str(text.completion))) for text in TEXTS]
    assert (found.model, found.temperature, found.max_tokens) == ("toy@7", 0.5, 128)
    bodies = [request.body for request in server.requests if request.path == "/v1/score"]
    assert all(body["model"] == "toy@7" and body["members"] for body in bodies)
    assert scores_of("toy@7", server.url).temperature == 1.0


def test_members_of_a_servers_ensemble_are_kept(serve: Serve, assay_server: Script) -> None:
    def script(request: Received) -> Answer:
        if request.path != "/v1/score":
            return assay_server(request)
        result = {"scores": [1.5], "std": [0.5], "members": [[1, 2]], "tokens": [1]}
        results = [{**result, "truncated": [True]} for _ in request.body["groups"]]
        return reply({"model": "toy@7", "format": "chat", "results": results})

    found = scores_of(None, serve(script).url)
    assert found.values.tolist() == [[1.0, 2.0]] * len(TEXTS)
    assert found.truncated == len(TEXTS)


def test_a_version_that_the_server_lacks_is_an_error(serve: Serve, assay_server: Script) -> None:
    with pytest.raises(NotFoundError, match="no version other@1"):
        scores_of("other@1", serve(assay_server).url)


def test_a_server_that_is_down_is_an_error(assay_server: Script) -> None:
    server = ScriptedServer(assay_server)
    server.close()
    with pytest.raises(ServerUnreachableError, match="no answer from 127"):
        scores_of(None, server.url)


def test_a_score_that_is_missing_or_not_finite_is_named(serve: Serve, assay_server: Script) -> None:
    def answering(score: float | None) -> str:
        def script(request: Received) -> Answer:
            if request.path != "/v1/score":
                return assay_server(request)
            results = [
                {"scores": [score if group["completions"] == ["xxx"] else 0.5],
                 "std": None, "tokens": [1], "truncated": [False]}
                for group in request.body["groups"]
            ]  # fmt: skip
            return reply({"model": "toy@7", "format": "chat", "results": results})

        return serve(script).url

    with pytest.raises(ScoringError, match="row 3, chosen: the server gives no score"):
        scores_of(None, answering(None))
    with pytest.raises(AssayError, match=r"no ScoreResponse: .*finite number"):
        scores_of(None, answering(float("nan")))


def test_a_text_that_the_server_refuses_is_named(serve: Serve, assay_server: Script) -> None:
    def script(request: Received) -> Answer:
        if request.path != "/v1/score":
            return assay_server(request)
        return problem(422, "invalid-input", "groups[4].completions[0]: too long")

    with pytest.raises(AssayError, match="^row 5, chosen: too long"):
        scores_of(None, serve(script).url)


def test_another_kind_of_server_is_an_error(serve: Serve) -> None:
    openai = {"object": "list", "data": [{"id": "gpt", "object": "model"}]}
    with pytest.raises(AssayError, match="the server's answer is no ModelList"):
        scores_of(None, serve(lambda _: reply(openai)).url)
