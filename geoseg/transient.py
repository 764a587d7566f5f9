"""Failures that pass by themselves: a server that is down, a full disk, a lost worker; not a damaged file or a wrong setting."""

from __future__ import annotations

import errno
import re
from typing import TypeVar

from geoseg.errors import GeosegError

__all__ = ["is_transient", "passing"]

PASSING_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOLINK", "ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "EREMOTEIO"),
        *("EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EBUSY", "EINTR", "ETXTBSY", "EPIPE", "ENETDOWN", "ENETUNREACH", "ENETRESET"),
        *("ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "ETIMEDOUT", "EHOSTUNREACH", "EHOSTDOWN", "ESHUTDOWN"),
    )
    if hasattr(errno, name)
)
"""What the system says of disks that are full or away, of limits on open files and memory, and of networks."""
PASSING_STATUSES = frozenset({401, 403, 404, 408, 410, 423, 425, 429, *range(500, 600)})
"""HTTP answers that say nothing of the file: the server is down or busy, a signature has expired, it is not there yet."""
PASSING_NAMES = frozenset(
    {
        *("KilledWorker", "CommClosedError", "FutureCancelledError", "PluginGoneError", "OutOfMemoryError"),
        *("OperationalError", "TransportError", "TimeoutException", "Timeout", "IncompleteRead", "RemoteDisconnected"),
        *("ConnectError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "HTTPStatusError", "GenericError"),
        *("CrashedRun", "CancelledRun", "PrefectHTTPStatusError", "gaierror"),
    }
)
"""Errors of libraries that are not imported here: lost workers and schedulers, databases, HTTP clients, Prefect."""
PASSING_TEXT = re.compile(
    r"bad_alloc|out of memory|failed to allocate|timed? ?out|could ?n.t resolve|HTTP (?:response|error) code ?: "
    r"?(?:4(?:01|03|04|08|10|29)|5\d\d)"
    r"|connection (?:was )?(?:reset|refused|closed)|KilledWorker|no space left",
    re.IGNORECASE,
)
Raised = TypeVar("Raised", bound=GeosegError)


def passing(error: Raised) -> Raised:
    """Mark an error as one whose cause may pass by itself."""
    error.transient = True
    return error


def is_transient(error: BaseException) -> bool:
    """Whether the cause of an error may pass by itself; the same scene can then succeed later, unchanged.

    Servers that are down, busy or deny (503, 429, an expired signature), time-outs, refused and reset connections, names
    that do not resolve, full or absent disks, lack of memory or of file handles, lost workers and schedulers.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if _passes(current):
            return True
        seen.add(id(current))
        current = current.__cause__
    return False


def _passes(error: BaseException) -> bool:
    if isinstance(error, GeosegError):
        return error.transient
    if isinstance(error, MemoryError | TimeoutError | ConnectionError):
        return True
    if any(kind.__name__ in PASSING_NAMES for kind in type(error).__mro__):
        return True
    status, reason = getattr(error, "code", None), getattr(error, "reason", None)
    if isinstance(status, int):
        return status in PASSING_STATUSES
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in PASSING_ERRNOS
    if isinstance(reason, BaseException):
        # urllib wraps what the system has said.
        return _passes(reason)
    return PASSING_TEXT.search(str(error)) is not None
