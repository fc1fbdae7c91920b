"""The connection to Redis: short timeouts, few retries, and the one place where its errors map."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from assay.errors import AssayError, DependencyError, StartupError

DEADLINE_S = 2.5  # of one operation with its retries and its wait for a free connection
_CONNECT_TIMEOUT_S = 1.0
_SOCKET_TIMEOUT_S = 2.0
_MAX_CONNECTIONS = 32
_RETRIES = 2
_SOON_S, _LATER_S = 1.0, 30.0  # a restart is over soon; an operator has to come for the rest


class _Trouble(NamedTuple):
    detail: str
    retry_after_s: float


_NO_ANSWER = _Trouble("Redis does not answer", _SOON_S)
_REFUSED = _Trouble("Redis refuses Assay's credentials", _LATER_S)
_BY_CODE = {
    "BUSY": _Trouble("Redis is busy with a script", _SOON_S),
    "LOADING": _Trouble("Redis is still loading its data", _SOON_S),
    "MASTERDOWN": _Trouble("Redis is a replica that has lost its master", _SOON_S),
    "READONLY": _Trouble("Redis is a read-only replica", _SOON_S),
    "MISCONF": _Trouble("Redis cannot write to its disk", _LATER_S),
    "NOREPLICAS": _Trouble("Redis lacks the replicas that it is told to need", _LATER_S),
    "OOM": _Trouble("Redis is out of memory", _LATER_S),
    "DENIED": _REFUSED,
    "NOAUTH": _REFUSED,
    "NOPERM": _REFUSED,
    "WRONGTYPE": _Trouble("a key of Assay holds another program's data in Redis", _LATER_S),
}
# redis-py takes the code out of the text where it has a class for it.
_CODE_OF = {
    exceptions.AuthenticationError: "NOAUTH",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
}
# At the start of an answer, or behind a script's own words: `... @user_script: 7: -OOM command`.
_CODE = re.compile(rf"(?:^|: -?)({'|'.join(_BY_CODE)}) ")


def connect(url: str) -> Redis:
    """A client that connects at its first command, and again whenever Redis comes back.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix:///path/to/socket`, with user and password.

    Raises:
        StartupError: it is none of these. The message leaves the URL out, as it holds a password.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            protocol=2,
            decode_responses=True,
            max_connections=_MAX_CONNECTIONS,
            timeout=DEADLINE_S,
            socket_timeout=_SOCKET_TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            health_check_interval=0,  # on a unix socket without its password it recurses endlessly
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.2), _RETRIES),
        )
        # Not opened: it shows whether the options in the URL are known.
        connection = pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, exceptions.RedisError):
        raise _bad_url() from None
    if isinstance(connection, UnixDomainSocketConnection) and not connection.path:
        raise _bad_url()
    return Redis.from_pool(pool)


def _bad_url() -> StartupError:
    return StartupError(
        "the Redis URL cannot be read: write redis://[user:password@]host:port/0, rediss://... "
        "for TLS or unix:///path/to/socket, and special characters in a password as %XX"
    )


@asynccontextmanager
async def redis_errors() -> AsyncIterator[None]:
    """Runs Redis commands under `DEADLINE_S`; also a decorator of async functions.

    Raises:
        DependencyError: Redis cannot be reached, is late, or is in no state to do its work.
        AssayError: it refused a command for another reason, which is a defect of Assay.
    """
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield
    except (
        exceptions.ConnectionError,
        exceptions.InvalidResponse,
        exceptions.TimeoutError,
        TimeoutError,
    ) as error:
        trouble = _trouble(error) or _NO_ANSWER
        raise DependencyError(trouble.detail, retry_after_s=trouble.retry_after_s) from error
    except exceptions.RedisError as error:
        # The cause is left out: redis-py writes the failed command into it, and texts with it.
        found = _trouble(error)
        if found is None:
            raise AssayError(f"Redis refused a command: {_answer(error)[:100]}") from None
        raise DependencyError(found.detail, retry_after_s=found.retry_after_s) from None


def _trouble(error: Exception) -> _Trouble | None:
    # On a unix socket, redis-py wraps what it got during the handshake.
    wrapped = type(error) is exceptions.ConnectionError and error.__cause__
    said = wrapped or error
    for cls, code in _CODE_OF.items():
        if isinstance(said, cls):
            return _BY_CODE[code]
    match = _CODE.search(_answer(said))
    return _BY_CODE[match.group(1)] if match else None


def _answer(error: BaseException) -> str:
    """What Redis said, without the command that redis-py puts in front of it in a pipeline."""
    return str(error).rpartition("caused error: (")[2].strip("'\",)")
