"""The one table of errors on the wire: class, status, slug and title (RFC 9457 problem details).

The server writes problems with it, the OpenAPI document lists its statuses, the client reads
problems back into the same exceptions.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from assay import errors
from assay.schemas.base import Outbound

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:assay:problem:"


class ProblemKind(NamedTuple):
    """How one class of errors appears on the wire."""

    error: type[errors.AssayError]
    status: int
    slug: str
    title: str


KINDS = (
    ProblemKind(errors.MalformedRequestError, 400, "malformed-request", "Malformed request"),
    ProblemKind(errors.UnauthorizedError, 401, "unauthorized", "Key missing or wrong"),
    ProblemKind(errors.ForbiddenError, 403, "forbidden", "Scope missing"),
    ProblemKind(errors.NotFoundError, 404, "not-found", "Not found"),
    ProblemKind(errors.ConflictError, 409, "conflict", "Not possible in the present state"),
    ProblemKind(errors.PayloadTooLargeError, 413, "payload-too-large", "Payload too large"),
    ProblemKind(errors.InvalidInputError, 422, "invalid-input", "Invalid input"),
    ProblemKind(errors.RateLimitedError, 429, "rate-limited", "Too many requests for this key"),
    ProblemKind(errors.ScoringError, 500, "scoring-failed", "Scoring failed"),
    ProblemKind(errors.OverloadedError, 503, "overloaded", "Queue full"),
    ProblemKind(errors.NotReadyError, 503, "not-ready", "Loading or draining"),
    ProblemKind(errors.DependencyError, 503, "dependency-down", "A needed service is down"),
    ProblemKind(errors.UnavailableError, 503, "unavailable", "Unavailable"),
    ProblemKind(errors.DeadlineExceededError, 504, "deadline-exceeded", "Deadline exceeded"),
    ProblemKind(errors.AssayError, 500, "internal", "Internal error"),
)

_BY_ERROR = {kind.error: kind for kind in KINDS}
_BY_SLUG = {kind.slug: kind for kind in KINDS}


class ProblemField(Outbound):
    """One wrong field of a request."""

    path: str = Field(description="Where: `groups[0].completions[2]`.")
    message: str = Field(description="What is wrong with it.")


class Problem(Outbound):
    """Body of every answer with a status of 400 or more, as `application/problem+json`."""

    type: str = Field(description="`urn:assay:problem:` and the slug of the kind of error.")
    title: str = Field(description="The kind of error in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What went wrong this time.")
    instance: str | None = Field(default=None, description="The request id, also in the logs.")
    errors: list[ProblemField] = Field(default_factory=list, description="The wrong fields.")


def kind_of(error: errors.AssayError) -> ProblemKind:
    """The row of the table for an error: its own class or the nearest base class."""
    return next(_BY_ERROR[cls] for cls in type(error).__mro__ if cls in _BY_ERROR)


def to_problem(error: errors.AssayError, instance: str | None = None) -> Problem:
    """The wire form of an error."""
    kind = kind_of(error)
    return Problem(
        type=TYPE_PREFIX + kind.slug,
        title=kind.title,
        status=kind.status,
        detail=error.detail,
        instance=instance,
        errors=[ProblemField(path=path, message=message) for path, message in error.fields],
    )


def from_problem(problem: Problem, retry_after_s: float | None = None) -> errors.AssayError:
    """The exception that a problem stands for; an unknown kind becomes plain `AssayError`."""
    kind = _BY_SLUG.get(problem.type.removeprefix(TYPE_PREFIX), _BY_SLUG["internal"])
    fields = tuple(errors.FieldError(field.path, field.message) for field in problem.errors)
    return kind.error(problem.detail, fields=fields, retry_after_s=retry_after_s)
