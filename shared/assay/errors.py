"""Everything that can go wrong, as a small tree of exceptions without HTTP in them.

    AssayError
    ├── MalformedRequestError      the request cannot be read, or contradicts itself
    ├── InvalidInputError          the request can be read, and a field of it is wrong
    ├── UnauthorizedError          no key, or a wrong one
    ├── ForbiddenError             the key lacks the scope
    ├── NotFoundError              no such model, route or record
    ├── ConflictError              right in itself, but not in the present state
    ├── PayloadTooLargeError       over a size limit
    ├── RateLimitedError           over the key's rate
    ├── UnavailableError           try again later
    │   ├── OverloadedError        the queue is full
    │   ├── NotReadyError          loading or draining
    │   └── DependencyError        Redis is needed and does not answer
    ├── DeadlineExceededError      too late
    ├── ScoringError               the model failed, or gave a number that is not finite
    ├── ModelLoadError             a reward model that cannot be served, and why
    │   ├── ModelNotFoundError     nothing is there
    │   └── ArtifactError          something is there, and it is damaged
    ├── DataError                  a data set that cannot be used, and where
    ├── StartupError               what keeps a command from starting, and the remedy
    └── ServerUnreachableError     client side: no answer at all

`assay.schemas.problem` maps the classes to statuses on the wire and back.
"""

from __future__ import annotations

from typing import NamedTuple


class FieldError(NamedTuple):
    """One wrong field: where it is (`groups[0].completions[2]`) and what is wrong with it."""

    path: str
    message: str


class AssayError(Exception):
    """Base of all errors that Assay raises on purpose.

    Args:
        detail: one sentence for the person who reads it, without prompts, completions or secrets.
        fields: the fields at fault, if the error is about fields.
        retry_after_s: when to try again, if that helps.
    """

    def __init__(
        self,
        detail: str,
        *,
        fields: tuple[FieldError, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the keyword fields when an error crosses a process boundary."""
        return (_rebuild, (type(self), self.detail, self.fields, self.retry_after_s))


def _rebuild(
    cls: type[AssayError],
    detail: str,
    fields: tuple[FieldError, ...],
    retry_after_s: float | None,
) -> AssayError:
    return cls(detail, fields=fields, retry_after_s=retry_after_s)


class MalformedRequestError(AssayError):
    """The request cannot be read, or contradicts itself."""


class InvalidInputError(AssayError):
    """The request can be read, and a field of it is wrong."""


class UnauthorizedError(AssayError):
    """No key, or a wrong one."""


class ForbiddenError(AssayError):
    """The key lacks the scope that the route needs."""


class NotFoundError(AssayError):
    """No such model, route or record."""


class ConflictError(AssayError):
    """Right in itself, but not in the present state: a version that is not resident, say."""


class PayloadTooLargeError(AssayError):
    """Over a size limit."""


class RateLimitedError(AssayError):
    """Over the key's rate."""


class UnavailableError(AssayError):
    """The server cannot answer at the moment; trying again helps."""


class OverloadedError(UnavailableError):
    """The queue is full."""


class NotReadyError(UnavailableError):
    """Loading or draining."""


class DependencyError(UnavailableError):
    """Redis is needed and does not answer."""


class DeadlineExceededError(AssayError):
    """The answer would have come too late."""


class ScoringError(AssayError):
    """The model failed, or gave a number that is not finite."""


class ModelLoadError(AssayError):
    """A reward model that cannot be served, and why."""


class ModelNotFoundError(ModelLoadError):
    """There is no reward model at that place."""


class ArtifactError(ModelLoadError):
    """A saved version that is damaged or of an unknown kind."""


class DataError(AssayError):
    """A data set that cannot be used, and where it goes wrong."""


class StartupError(AssayError):
    """What keeps a command from starting, and the remedy."""


class ServerUnreachableError(AssayError):
    """Client side: the server gave no answer."""
