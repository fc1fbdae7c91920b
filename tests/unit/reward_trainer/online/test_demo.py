from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from online_trainer import trainer_settings
from reward_trainer.__main__ import app
from reward_trainer.fit.pairs import Pair
from reward_trainer.gate.data import held_out
from reward_trainer.online.command import NO_PREFERENCES, main
from reward_trainer.online.demo import as_demo, demo_pairs
from reward_trainer.online.demo_text import corrupted, pairs, samples
from reward_trainer.preferences.roots import root_of


def test_enough_pairs_are_held_out_for_a_promotion_without_a_person() -> None:
    made = [
        Pair("demo", i, root_of(p["prompt"]), p["prompt"], p["chosen"], p["rejected"])
        for i, p in enumerate(pairs(14_000), start=1)
    ]
    assert len({pair.key for pair in made}) > 13_000
    assert all(pair.chosen != pair.rejected for pair in made)
    assert len(held_out(made).held) >= 1500


def test_length_says_nothing_about_which_answer_is_the_corrupted_one() -> None:
    gaps = [len(p["chosen"]) - len(p["rejected"]) for p in pairs(4000)]
    longer, shorter = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    assert 0.4 < longer / (longer + shorter) < 0.6


def test_samples_of_a_number_are_always_the_same_and_differ() -> None:
    assert samples(7) == samples(7)
    assert samples(7) != samples(8)
    prompt, completions = samples(7)
    assert prompt
    assert len(set(completions)) == 4


@pytest.mark.parametrize("degree", [0.0, 0.5, 1.0])
def test_a_degree_is_the_share_of_sentences_that_are_made_worse(degree: float) -> None:
    answer = "It is made of wax. You can find it in a drawer."
    for seed in range(9):
        worse = corrupted(answer, "a candle", degree, Random(seed))
        kept = [one for one in ("It is made of wax", "You can find it in a drawer") if one in worse]
        assert len(kept) >= round(2 * (1 - degree))


def test_a_demo_counts_while_it_shows_signs_of_life(tmp_path: Path) -> None:
    assert demo_pairs(tmp_path) is None
    path = tmp_path / "demo" / "preferences.jsonl"
    path.parent.mkdir()
    path.touch()
    assert demo_pairs(tmp_path) == path
    old = time.time() - 3600
    os.utime(path, (old, old))
    assert demo_pairs(tmp_path) is None


def test_a_demo_has_a_state_of_its_own(tmp_path: Path) -> None:
    settings = trainer_settings(tmp_path, "redis://x")
    assert settings.folder == tmp_path / "trainer"
    assert as_demo(settings).folder == tmp_path / "demo" / "trainer"
    assert as_demo(settings).store_url == settings.store_url


def test_without_a_server_the_demo_says_so_and_writes_nothing(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9"
    result = CliRunner().invoke(app, ["demo", "--home", str(tmp_path), "--url", url])
    assert result.exit_code == 1
    assert "assay demo: no answer from" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--update-rule", "magic"], "update_rule: Input should be 'vanilla'"),
        (["--publish-updates", "10", "--checkpoint-updates", "3"], "publish_updates 10 is no mul"),
        (["--preferences", "x.jsonl"], "no Redis: name one with --redis-url"),
        (
            ["--preferences", "nowhere.jsonl", "--redis-url", "redis://h:1"],
            "nowhere.jsonl: no such",
        ),
    ],
)
def test_what_keeps_it_from_training_is_one_line(
    flags: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ASSAY_PREFERENCES", "ASSAY_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.nice", lambda _: 0)
    monkeypatch.setattr("assay.observability.logging.configure_logging", lambda *_: None)
    assert main(["--home", str(tmp_path), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"assay train: {said}")
    assert error.count("\n") == 1


def test_without_preferences_it_names_the_setting_and_waits(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.delenv("ASSAY_PREFERENCES", raising=False)
    monkeypatch.setattr("time.sleep", interrupted)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main(["--home", str(tmp_path)]) == 0
    assert NO_PREFERENCES in capsys.readouterr().err
    assert "ASSAY_PREFERENCES" in NO_PREFERENCES
