"""The PPO worker on a tiny policy, against a real app over real HTTP with a real Redis."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import torch
from transformers import AutoModelForCausalLM

from assay.client import Client
from assay.errors import DataError, InvalidInputError, ScoringError, StartupError
from online_trainer import read_jsonl
from ppo_runs import STEPS, forked, save_task, settings
from ppo_worker.checkpoint import read_checkpoint
from ppo_worker.metrics import Event, StepRecord, read_rows
from ppo_worker.report import write_report
from ppo_worker.run import train
from redis_server import RedisServer
from reward_server.app import create_app
from scripted_server import Answer, Received, ScriptedServer, length_scores
from serving import free_port, until
from text_scorer import TextScorer
from toy import http_server, toy_settings

pytestmark = pytest.mark.integration

PER_STEP = 6 * 4


def letters(_: str, *completion: str) -> float:
    """In parts where the completion holds the byte 0."""
    return float(sum(letter.isalpha() for letter in "".join(completion)))


def twice(*texts: str) -> float:
    return 2 * letters(*texts)


def count_e(*texts: str) -> float:
    return float("".join(texts[1:]).count("e"))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in the same order, in this process and another
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy and its prompts."""
    return save_task(tmp_path_factory.mktemp("task"))


@pytest.fixture
def url(redis_server: RedisServer) -> Iterator[str]:
    app = create_app(toy_settings(redis_url=redis_server.url), TextScorer(letters, twice))
    with http_server(app) as url:
        yield url


def stream(server: RedisServer) -> list[dict[str, Any]]:
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        return [json.loads(fields[b"data"]) for _, fields in client.xrange("assay:samples")]


def tensors(run: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return checkpoint.tensors


def assert_equal(one: Any, other: Any) -> None:
    """Bit for bit, through all containers."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    else:
        assert one == other


def test_a_run_leaves_a_policy_its_samples_its_figures_and_a_report(
    task: Path, url: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    run = tmp_path / "run"
    texts = tmp_path / "texts.txt"
    texts.write_text("some text\nanother text\n")
    last = train(settings(task, run, url, ptx_coef=0.1, ptx_texts=texts), None)
    assert (last.step, last.model_version, last.base_std > 0) == (STEPS, "texts@1", True)

    rows = read_jsonl(run / "steps.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0]["policy_loss"] is None  # the critic alone
    assert rows[0]["kl"] == rows[1]["kl"] == 0  # so the policy was the reference until then
    assert rows[2]["kl"] != 0
    assert rows[2]["ptx_loss"] > 0
    evaluations = read_jsonl(run / "evaluations.jsonl")
    assert [row["step"] for row in evaluations] == [0, 2, 3]
    assert evaluations[0]["score"] == evaluations[2]["base_score"]

    posted = stream(redis_server)
    assert {(item["policy"], item["step"]) for item in posted} == {("ppo", s) for s in (1, 2, 3)}
    sent = sum(len(item["completions"]) for item in posted)
    assert sent == STEPS * PER_STEP - sum(row["unscored"] for row in rows)
    own = [item for item in posted if item["step"] == 1]
    means = [sum(1.5 * letters("", text) for text in item["completions"]) for item in own]
    count = sum(len(item["completions"]) for item in own)
    assert rows[0]["score"] == pytest.approx(sum(means) / count)

    AutoModelForCausalLM.from_pretrained(run / "policy")
    page = write_report(run).read_text()
    assert "prompt 18" in page
    assert "data:image/png;base64," in page
    assert list((run / "tensorboard").iterdir())


@pytest.mark.parametrize("mode", ["contrastive", "lcb"])
def test_baselines_are_stored_before_the_first_step_where_they_are_missing(
    task: Path, url: str, tmp_path: Path, mode: str
) -> None:
    with Client(url) as client:
        base = f"ppo.base.{_digest(task)}"
        known = {"prompt": "prompt 3", "completions": ["mine"], "policy": base}
        client.put_baselines([known])
        train(
            settings(
                task, tmp_path / "run", url, reward=mode, steps=1, critic_steps=0, lora_rank=2
            ),
            None,
        )
        stored = {i: client.lookup_baselines(f"prompt {i}", base).items for i in range(18)}
    row = read_jsonl(tmp_path / "run" / "steps.jsonl")[0]
    visited = [i for i, items in stored.items() if items]
    assert {3} < set(visited) or set(visited) == {3} | set(visited)
    assert len(visited) in (6, 7)  # those of one step, and the one that was there
    assert stored[3][0].completions == ["mine"]
    assert all(len(stored[i][0].completions) <= 4 for i in visited)
    assert abs(row["reward"]) < row["score"]
    events = read_jsonl(tmp_path / "run" / "events.jsonl")
    assert events[0]["kind"] == "baselines"
    assert events[0]["prompts"] == 6


def _digest(task: Path) -> str:
    from ppo_worker.baselines import baseline_policy

    changed = settings(task, task, "http://nowhere")
    return baseline_policy(changed, str(task / "policy")).rpartition(".")[2]


def test_a_killed_run_goes_on_to_the_same_tensors_and_the_same_samples(
    task: Path, url: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    straight, killed = (settings(task, tmp_path / name, url, steps=5) for name in ("a", "b"))
    train(straight, None)
    before = stream(redis_server)
    worker = forked(killed)
    until(lambda: len(read_rows(killed.folder / "steps.jsonl", StepRecord)) > 1, 60, "two steps")
    worker.kill()
    worker.join()
    assert len(read_rows(killed.folder / "steps.jsonl", StepRecord)) < 5, (
        "it was not killed in time"
    )
    train(killed, None)
    assert_equal(tensors(killed.folder), tensors(straight.folder))
    assert [row["step"] for row in read_jsonl(killed.folder / "steps.jsonl")] == [1, 2, 3, 4, 5]
    assert stream(redis_server)[len(before) :] == before  # each step once


def test_a_server_that_restarts_with_another_version_is_waited_for(
    task: Path, tmp_path: Path
) -> None:
    run, port = tmp_path / "run", free_port()
    results: list[Any] = []
    changed = settings(
        task,
        run,
        f"http://127.0.0.1:{port}",
        steps=15,
        post_samples=False,
        policy_learning_rate=1e-4,
        checkpoint_steps=100,
    )
    worker = threading.Thread(target=lambda: results.append(train(changed, None)))
    with http_server(create_app(toy_settings(), TextScorer(letters)), port):
        worker.start()
        until(lambda: (run / "steps.jsonl").exists(), 60, "a step")
    until(lambda: "waiting" in kinds(run), 60, "a worker that waits")
    other = TextScorer(lambda *texts: 100 + letters(*texts), name="texts@2")
    with http_server(create_app(toy_settings(), other), port):
        worker.join()
    assert results[0].model_version == "texts@2"
    assert kinds(run) == ["waiting", "back", "version"]
    checkpoint = read_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.state.moments.keys() == {"texts@1", "texts@2"}
    rows = read_jsonl(run / "steps.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 16))
    assert max(abs(row["optimised"]) for row in rows) < 4  # each on the scale of its own version


def kinds(run: Path) -> list[str]:
    return [event.kind for event in read_rows(run / "events.jsonl", Event)]


def test_a_completion_without_a_score_is_left_out_and_counted(task: Path, tmp_path: Path) -> None:
    def some(request: Received) -> Answer:
        answer = length_scores(request)
        body = json.loads(answer.body)
        for result in body["results"]:
            result["scores"][0] = None
        return Answer(body=json.dumps(body).encode())

    def none(request: Received) -> Answer:
        body = json.loads(length_scores(request).body)
        for result in body["results"]:
            result["scores"] = [None] * len(result["scores"])
        return Answer(body=json.dumps(body).encode())

    for script in (some, none):
        server = ScriptedServer(script)
        try:
            changed = settings(
                task,
                tmp_path / script.__name__,
                server.url,
                steps=1,
                critic_steps=0,
                post_samples=False,
            )
            if script is none:
                with pytest.raises(ScoringError, match="has a score"):
                    train(changed, None)
                continue
            train(changed, None)
            row = read_jsonl(changed.folder / "steps.jsonl")[0]
            assert row["unscored"] >= 6  # the first of each group, and what is empty
            scored = [
                float(len(text))
                for request in server.requests
                if "finished" in request.body["groups"][0] and len(request.body["groups"]) == 6
                for group in request.body["groups"]
                for text in group["completions"][1:]
            ]
            assert row["score"] == pytest.approx(sum(scored) / len(scored))
        finally:
            server.close()


def test_numbers_that_are_not_finite_end_the_run_and_keep_the_last_good_checkpoint(
    task: Path, url: str, tmp_path: Path
) -> None:
    wild = settings(
        task, tmp_path / "run", url, policy_learning_rate=1e30, value_learning_rate=1e-3
    )
    with pytest.raises(ScoringError, match="step 2: .* not finite"):
        train(wild, None)
    checkpoint = read_checkpoint(wild.folder / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.state.step == 1
    assert all(weight.isfinite().all() for weight in checkpoint.tensors["policy"].values())


def test_a_policy_that_runs_off_is_warned_of(task: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with http_server(create_app(toy_settings(), TextScorer(count_e))) as url:
        wild = settings(
            task,
            run,
            url,
            steps=26,
            prompts_per_step=8,
            policy_learning_rate=3e-3,
            reward_clip=3,
            kl_coef=0,
            missing_eos_penalty=0,
            max_new_tokens=16,
            evaluate_steps=100,
            checkpoint_steps=100,
            post_samples=False,
        )
        train(wild, None)
    assert {"kl_spike", "collapse"} <= set(kinds(run))
    assert '<td class="warning">collapse</td>' in write_report(run).read_text()


def test_a_proxy_that_breaks_up_is_waited_for(task: Path, tmp_path: Path) -> None:
    broken = [Answer(502, b"bad gateway"), Answer(404, b"no such path"), Answer(500, b"oops")]

    def script(request: Received) -> Answer:
        is_batch = len(request.body["groups"]) == 6
        return broken.pop() if is_batch and broken else length_scores(request)

    server = ScriptedServer(script)
    try:
        fields = {"steps": 1, "critic_steps": 0, "post_samples": False}
        train(settings(task, tmp_path / "run", server.url, **fields), None)
    finally:
        server.close()
    assert not broken
    assert kinds(tmp_path / "run") == ["waiting", "back"]


def test_scores_out_of_all_proportion_end_the_run_in_one_line(task: Path, tmp_path: Path) -> None:
    def script(request: Received) -> Answer:
        body = json.loads(length_scores(request).body)
        for result in body["results"]:
            result["scores"] = [1e300] * len(result["scores"])
        return Answer(body=json.dumps(body).encode())

    server = ScriptedServer(script)
    try:
        with pytest.raises(ScoringError, match="1e\\+300"):
            train(settings(task, tmp_path / "run", server.url, post_samples=False), None)
    finally:
        server.close()


def test_what_keeps_a_run_from_starting_is_one_line(
    task: Path, url: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    run = tmp_path / "run"
    nobody = settings(task, run, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StartupError, match="assay up"):
        train(nobody, None)
    with (
        http_server(create_app(toy_settings(), TextScorer(letters))) as bare,
        pytest.raises(StartupError, match="no-post-samples"),
    ):
        train(settings(task, run, bare), None)
    one = create_app(toy_settings(redis_url=redis_server.url), TextScorer(letters))
    with http_server(one) as alone, pytest.raises(InvalidInputError, match="lcb needs"):
        train(settings(task, run, alone, reward="lcb"), None)
    assert not (run / "checkpoints").exists()
    with pytest.raises(DataError, match="max_prompt_tokens"):
        train(settings(task, tmp_path / "short", url, max_prompt_tokens=3), None)
    with pytest.raises(DataError, match="holds no steps"):
        write_report(run)


def test_a_run_goes_on_with_what_it_began_with_and_a_start_that_failed_began_nothing(
    task: Path, url: str, tmp_path: Path
) -> None:
    run, prompts = tmp_path / "run", tmp_path / "prompts.jsonl"
    lines = (task / "prompts.jsonl").read_text()
    prompts.write_text(lines)
    with pytest.raises(DataError, match="max_prompt_tokens"):
        train(settings(task, run, url, prompts=prompts, max_prompt_tokens=3), None)
    begun = settings(task, run, url, prompts=prompts, steps=1, critic_steps=0)
    train(begun, None)
    with pytest.raises(StartupError, match="another seed, gamma|another gamma, seed"):
        train(begun.model_copy(update={"seed": 7, "gamma": 0.5}), None)
    prompts.write_text(lines.replace("prompt 3", "another"))
    with pytest.raises(StartupError, match="another prompts_sha256"):
        train(begun, None)
    prompts.write_text(lines)
    for damaged in ("[]", "{"):
        (run / "settings.json").write_text(damaged)
        with pytest.raises(DataError, match="holds no settings"):
            train(begun, None)
