"""Where clients find the server, what they show of themselves, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import AssayError, InvalidInputError
from scripted_server import length_scores

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ASSAY_URL", "ASSAY_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_url_and_key_come_from_the_environment(
    make_client: Make, serve: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(length_scores)
    monkeypatch.setenv("ASSAY_URL", server.url)
    monkeypatch.setenv("ASSAY_KEY", "from-env")
    make_client().score("p", ["a"])
    make_client(key="explicit").score("p", ["a"])
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer from-env", "Bearer explicit"]


def test_without_a_key_none_is_sent(make_client: Make, serve: Make) -> None:
    server = serve(length_scores)
    make_client(url=server.url).score("p", ["a"])
    assert "authorization" not in server.requests[0].headers


def test_a_path_prefix_stays_in_front(make_client: Make, serve: Make) -> None:
    def script(request: Any) -> Any:
        assert request.path == "/m/toy@7/v1/models"
        from scripted_server import reply

        return reply({"object": "list", "data": []})

    assert make_client(url=f"{serve(script).url}/m/toy@7/").models().data == []


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secr\u00e9t", "sk secret"])
def test_a_key_that_fits_no_header_is_refused_unseen(make_client: Make, key: str) -> None:
    with pytest.raises(AssayError) as caught:
        make_client(key=key).score("p", ["a"])
    assert isinstance(caught.value, InvalidInputError)
    shown = "".join(traceback.format_exception(caught.value))
    assert "sk-secr" not in shown
    assert "sk secret" not in shown


def test_the_key_is_in_no_repr(make_client: Make) -> None:
    client = make_client(url="http://user:password@127.0.0.1:9", key="sk-secret")
    shown = repr(client) + repr(vars(getattr(client, "client", client)))
    assert "sk-secret" not in shown
    assert "password" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "127.0.0.1:8000"}, {"url": "ftp://host"}, {"model": "a b"}, {"timeout_s": 0},
        {"connections": 0}, {"texts_per_request": 0}, {"retries": -1},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(make_client: Make, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        make_client(**wrong)


@pytest.mark.parametrize(
    "statement", ["import assay", "import assay.client", "import assay.settings"]
)
def test_importing_costs_no_heavy_package(statement: str) -> None:
    heavy = {"torch", "ray", "redis", "fastapi", "transformers", "numpy"}
    code = f"{statement}; import sys; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_both_clients_come_from_the_package() -> None:
    from assay import AsyncClient, Client

    assert Client.__module__.startswith("assay.client")
    assert AsyncClient.__module__.startswith("assay.client")
