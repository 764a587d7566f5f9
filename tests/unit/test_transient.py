"""What passes by itself, and what does not: the first is tried again for good, the second ends in quarantine."""

from __future__ import annotations

import errno
import io
import pickle
import socket
import urllib.error
from email.message import Message

import pytest

from geoseg.errors import (
    ClusterError,
    ConfigError,
    DtypeError,
    GeosegError,
    NotARasterError,
    OutputBusyError,
    OutputError,
    ReadError,
    SceneChangedError,
    TruncatedError,
)
from geoseg.transient import is_transient, passing


def _http(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://x", code, "", Message(), io.BytesIO())


def _from(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


class KilledWorker(Exception):  # noqa: N818 - named as Dask names its own
    pass


PASSES = {
    "503": _http(503),
    "429": _http(429),
    "an expired signature": _http(403),
    "not there yet": _http(404),
    "time-out": TimeoutError(),
    "refused": ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    "reset": ConnectionResetError(),
    "no such host": urllib.error.URLError(socket.gaierror(-2, "Name or service not known")),
    "disk full": OSError(errno.ENOSPC, "full"),
    "quota": OSError(errno.EDQUOT, "full"),
    "stale mount": OSError(errno.ESTALE, "stale"),
    "read-only": OSError(errno.EROFS, "ro"),
    "no file handles": OSError(errno.EMFILE, "many"),
    "memory": MemoryError(),
    "a lost worker": KilledWorker(),
    "a lost cluster": ClusterError("lost"),
    "another run": OutputBusyError("busy"),
    "a file that changes": SceneChangedError("changed"),
    "marked": passing(ReadError("5 times in a row")),
    "a full disk behind": _from(OutputError("make room"), OSError(errno.ENOSPC, "full")),
    "words of GDAL": _from(ReadError("a.tif"), RuntimeError("HTTP response code: 503")),
    "memory of the network": RuntimeError("onnxruntime: Failed to allocate memory for requested buffer"),
}
STAYS = {
    "no raster": NotARasterError("an empty file"),
    "truncated": TruncatedError("short"),
    "wrong type": DtypeError("float"),
    "a setting": ConfigError("tile"),
    "other results": OutputError("holds results of another run"),
    "a mistake": KeyError("x"),
    "damaged bytes": _from(ReadError("a.tif"), RuntimeError("ZIPDecode: Decoding error at scanline 0")),
    "no such file": FileNotFoundError(errno.ENOENT, "gone"),
    "no permission": PermissionError(errno.EACCES, "denied"),
    "bad request": _http(400),
    "too deep": RecursionError(),
    "zero": ZeroDivisionError(),
}


@pytest.mark.parametrize("kind", PASSES)
def test_passes(kind: str) -> None:
    assert is_transient(PASSES[kind])


@pytest.mark.parametrize("kind", STAYS)
def test_stays(kind: str) -> None:
    assert not is_transient(STAYS[kind])


def test_the_mark_travels_from_workers() -> None:
    told = pickle.loads(pickle.dumps(passing(ReadError("a.tif: 503"))))
    assert isinstance(told, GeosegError)
    assert told.transient
    assert not ReadError("b.tif").transient


def test_causes_that_lead_in_a_circle_end() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert not is_transient(first)
