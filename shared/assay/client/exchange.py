"""One request and what becomes of it, without I/O: retry or not, result or error."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from pydantic import ValidationError

from assay.errors import AssayError, DeadlineExceededError, FieldError, ServerUnreachableError
from assay.schemas.problem import KINDS, Problem, from_problem

FIRST_WAIT_S = 0.25
MAX_WAIT_S = 8.0
CONNECT_TIMEOUT_S = 10.0

# The last row of a status is its most general error.
_BY_STATUS = {kind.status: kind for kind in KINDS}
_POSITION = re.compile(
    r"\b(groups|pairs|items)\[(\d+)\](?:(\.(?:completions|labels|finished))\[(\d+)\])?"
)


@dataclass(frozen=True)
class Request:
    """One HTTP request, ready to be sent any number of times.

    Attributes:
        first: position of its first item among all items of the call.
        skipped: completions of that item that earlier requests carry.
        once: True = it is never sent again.
    """

    method: str
    path: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    first: int = 0
    skipped: int = 0
    once: bool = False

    @property
    def all_headers(self) -> dict[str, str]:
        """Headers, with the content type where there is a body."""
        content = {"Content-Type": "application/json"} if self.body is not None else {}
        return {**content, **dict(self.headers)}


@dataclass(frozen=True)
class Failure:
    """A try that brought no answer, or one with a status other than 2xx."""

    error: AssayError
    may_pass: bool


class Deadline:
    """The end of one call, over all its requests, tries and waits."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._end_s = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Seconds left, above 0.

        Raises:
            DeadlineExceededError: none are left.
        """
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise self.exceeded()
        return left_s

    def watch(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of a body, which may each be in time and all together late."""
        for piece in pieces:
            self.left_s()
            yield piece

    def exceeded(self, last: AssayError | None = None) -> DeadlineExceededError:
        """The error of a call that ran out of time, with what went wrong last."""
        why = f"; the last try: {last.detail}" if last else ""
        return DeadlineExceededError(
            f"no result within {self._timeout_s:g} s{why}",
            retry_after_s=last.retry_after_s if last else None,
        )

    def expire(self) -> None:
        """End it, so that the other requests of a call that has failed are not tried again."""
        self._end_s = time.monotonic()


def wait_before_retry(failure: Failure, attempt: int, retries: int, deadline: Deadline) -> float:
    """Seconds to wait before the request is sent again.

    Connection errors and 5xx are tried again, anything else is final. The wait doubles each time
    and is spread at random, so that many clients do not come back at once; the server's
    Retry-After is the least it can be.

    Args:
        failure: what the last try came to.
        attempt: tries so far, from 1.
        retries: tries after the first one.
        deadline: when the call ends.

    Raises:
        AssayError: the failure's own error, where there is no further try.
        DeadlineExceededError: the further try would come too late.
    """
    if not failure.may_pass or attempt > retries:
        raise failure.error
    wait_s = min(MAX_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
    wait_s = max(wait_s, failure.error.retry_after_s or 0.0)
    if wait_s >= deadline.left_s():
        raise deadline.exceeded(failure.error)
    return wait_s


def conclude(request: Request, response: httpx.Response, body: bytes) -> bytes | Failure:
    """The body of a good reply, or what another one stands for."""
    status = response.status_code
    if response.is_success:
        return body
    error = _error(status, body, retry_after_s(response.headers.get("Retry-After")))
    return Failure(_in_the_call(error, request), may_pass=status >= 500 and not request.once)


def lost(request: Request, error: httpx.RequestError, server: str, deadline: Deadline) -> Failure:
    """What it means that no complete reply came.

    Raises:
        DeadlineExceededError: the reply was waited for until no time was left.
    """
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        raise deadline.exceeded() from None
    if isinstance(error, httpx.DecodingError):
        return Failure(AssayError(f"the answer of {server} cannot be decoded"), may_pass=False)
    unreachable = ServerUnreachableError(f"no answer from {server}: {type(error).__name__}")
    return Failure(unreachable, may_pass=not request.once)


def retry_after_s(header: str | None) -> float | None:
    """The seconds of a Retry-After header, a number or a date; nonsense counts as none."""
    if header is None:
        return None
    if re.fullmatch(r"\d{1,9}", header):
        return float(header)
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def _error(status: int, body: bytes, after_s: float | None) -> AssayError:
    try:
        return from_problem(Problem.model_validate_json(body), after_s)
    except ValidationError:
        kind = _BY_STATUS.get(status)
        error = kind.error if kind else AssayError
        return error(f"HTTP {status} without a problem document", retry_after_s=after_s)


def _in_the_call(error: AssayError, request: Request) -> AssayError:
    """The error with positions as the caller counts them, whatever part the request carried."""
    if not request.first and not request.skipped:
        return error

    def moved(text: str) -> str:
        return _POSITION.sub(lambda match: _moved(match, request), text)

    fields = tuple(FieldError(moved(path), message) for path, message in error.fields)
    return type(error)(moved(error.detail), fields=fields, retry_after_s=error.retry_after_s)


def _moved(match: re.Match[str], request: Request) -> str:
    name, item, inner, completion = match.groups()
    path = f"{name}[{int(item) + request.first}]"
    if inner is None:
        return path
    skipped = request.skipped if int(item) == 0 else 0
    return f"{path}{inner}[{int(completion) + skipped}]"
