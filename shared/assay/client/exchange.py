"""One request and what becomes of it, without I/O: retry or not, result or error."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import httpx
from pydantic import ValidationError

from assay.errors import AssayError, DeadlineExceededError, ServerUnreachableError
from assay.schemas.problem import Problem, from_problem

FIRST_WAIT_S = 0.25
MAX_WAIT_S = 8.0


@dataclass(frozen=True)
class Request:
    """One HTTP request, ready to be sent any number of times."""

    method: str
    path: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def pinned(self, model: str) -> Request:
        """The same request, to be answered by that version only."""
        return replace(self, headers=(*self.headers, ("X-Assay-Model", model)))

    @property
    def all_headers(self) -> dict[str, str]:
        """Headers, with the content type where there is a body."""
        content = {"Content-Type": "application/json"} if self.body is not None else {}
        return {**content, **dict(self.headers)}


Outcome = httpx.Response | httpx.TransportError


def wait_before_retry(outcome: Outcome, attempt: int, retries: int) -> float | None:
    """Seconds to wait before the request is sent again, or None if it is not.

    Connection errors and 5xx are tried again, anything else is final. The wait doubles each time
    and is spread at random, so that many clients do not come back at once; the server's
    Retry-After is the least it can be.

    Args:
        outcome: the reply, or why there is none.
        attempt: tries so far, from 1.
        retries: tries after the first one.
    """
    if attempt > retries:
        return None
    if isinstance(outcome, httpx.Response) and outcome.status_code < 500:
        return None
    wait_s = min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
    asked_s = retry_after_s(outcome) if isinstance(outcome, httpx.Response) else None
    return max(wait_s, asked_s or 0.0)


def retry_after_s(response: httpx.Response) -> float | None:
    """The seconds of a Retry-After header; a date or nonsense counts as none."""
    text: str = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def conclude(outcome: Outcome, url: str) -> httpx.Response:
    """A good reply, or the exception that the outcome stands for.

    Raises:
        ServerUnreachableError: there was no reply.
        AssayError: the server's problem, as the exception that it was there.
    """
    if isinstance(outcome, httpx.TransportError):
        kind = type(outcome).__name__
        raise ServerUnreachableError(f"no answer from {url}: {kind}") from outcome
    if outcome.is_success:
        return outcome
    try:
        problem = Problem.model_validate_json(outcome.content)
    except ValidationError:
        raise AssayError(
            f"{url} answered {outcome.status_code} without a problem document; is it Assay?"
        ) from None
    raise from_problem(problem, retry_after_s(outcome))


def too_late(timeout_s: float) -> DeadlineExceededError:
    """The error of a call that ran out of time."""
    return DeadlineExceededError(f"no result within {timeout_s:g} s")
