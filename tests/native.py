"""What the native route says of a text: the other ones are compared with it."""

from __future__ import annotations

from typing import Any

import httpx


def native_score(url: str, prompt: Any, completion: Any, **options: Any) -> dict[str, Any]:
    """The result of `POST /v1/score` for one completion: score, std, model."""
    group = {"prompt": prompt, "completions": [completion]}
    finished = options.pop("finished", None)
    if finished is not None:
        group["finished"] = [finished]
    reply = httpx.post(f"{url}/v1/score", json={"groups": [group], **options}, timeout=60)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    (result,) = body["results"]
    std = None if result["std"] is None else result["std"][0]
    return {"score": result["scores"][0], "std": std, "model": body["model"]}
