"""Scenes on servers and in object stores: what they are before GDAL reads them, and how GDAL is to read them."""

from __future__ import annotations

import base64
import itertools
import random
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, InvalidURL
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from geoseg.addresses import is_remote, path_of, shown
from geoseg.deadline import within
from geoseg.errors import NotARasterError, ReadError, SceneError
from geoseg.redaction import redact
from geoseg.scenes.pixels.jp2 import STARTS as JP2_STARTS
from geoseg.scenes.preflight import accepted_formats, sniff
from geoseg.scenes.products.recognizing import LANDSAT, SENTINEL2
from geoseg.transient import is_transient, passing

__all__ = [
    "GDAL_OPTIONS",
    "HEAD",
    "MEANINGS",
    "RemoteFacts",
    "ask_again",
    "basic_credentials",
    "is_http",
    "is_remote",
    "open_http",
    "probe",
    "shown",
    "unshared",
]

TRIES = 5
TIMEOUT_S = 20.0
HEAD = 64 << 10
"""Bytes that a file is looked at by."""
PROBE_S = 30.0
"""Seconds that a small request may take in all."""
MEANINGS = {401: "needs credentials", 403: "access is denied", 404: "not found", 416: "the file is shorter than it was"}
_handles = itertools.count()

GDAL_OPTIONS = {
    # Sidecars of remote files are not searched for: each would cost requests.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "120",
    # Below 1 kB/s for half a minute, a server is silent; the whole time may be long for large windows.
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_MULTIRANGE": "YES",
    "CPL_VSIL_CURL_USE_HEAD": "NO",
    # GDAL keeps the bytes that it got, damaged ones too, for the whole process; without this a retry would meet them.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/",
}
"""Options for reading remote files."""


@dataclass(frozen=True, slots=True)
class RemoteFacts:
    """Facts that a server tells of a file."""

    size: int
    """Bytes."""
    version: str
    """Its ETag, else its time of modification; changes when the file does."""
    head: bytes = field(default=b"", repr=False, compare=False)
    """Its first bytes, which hold the directories of most GeoTIFFs."""


def probe(url: str) -> RemoteFacts | None:
    """Ask an HTTP server for the first bytes of a file; None for object stores, which GDAL asks with its credentials.

    Raises:
        ReadError: The server refuses, has no such file, can't serve parts of it, or keeps failing.
        NotARasterError: The file is not a TIFF.
    """
    if not is_http(url):
        return None
    delay = 0.25
    for attempt in range(1, TRIES + 1):
        try:
            # A server can send a byte now and then, so that no single wait is ever too long.
            return within(PROBE_S, lambda: _probe_once(url), "geoseg-probe")
        except SceneError:
            raise
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                meaning = MEANINGS.get(error.code, "refused")
                meaning = error.msg if error.msg.startswith("sends one") else meaning
                told = ReadError(f"{shown(url)}: the server answers {error.code} ({meaning}); check the address")
                told.transient = is_transient(error)
                raise told from error
            reason = f"the server answers {error.code}"
        except (InvalidURL, ValueError) as error:
            raise ReadError(f"{shown(url)}: no valid address; check it, and write spaces as %20") from error
        except (OSError, EOFError, HTTPException) as error:
            reason = redact(str(getattr(error, "reason", error)), url) or type(error).__name__
        if attempt < TRIES:
            time.sleep(delay)
            delay *= 2
    raise passing(ReadError(f"{shown(url)}: {reason}, {TRIES} times in a row; try again later"))


def unshared(path: str) -> str:
    """Change an address to a form that no other handle has, for an HTTP server; other paths stay as they are.

    GDAL keeps one cache per address for all threads of the process, and a thread waits in it for bytes that another is
    just getting. rasterio holds Python's lock while a handle reads its header, and the other thread needs that lock to
    report what happened: both would wait for ever. Bytes that came damaged would also meet every later attempt. A
    fragment is not sent to the server (RFC 9110, section 4.2.5), and makes GDAL see another address.
    """
    if not is_http(path):
        return path
    return f"{path.split('#', maxsplit=1)[0]}#{next(_handles)}"


def ask_again(url: str) -> None:
    """Send an HTTP server zero to two small requests before a read is tried again; whether they succeed does not matter.

    A balancer hands requests to its servers in turn. A reader that always sends the same number of requests until one
    fails can meet the same broken server every time; a number drawn by chance takes it out of step.
    """
    for _ in range(random.randrange(3) if is_http(url) else 0):  # noqa: S311 - spreads requests, keeps no secret
        with suppress(ReadError, NotARasterError, OSError, EOFError, HTTPException, ValueError):
            _probe_once(url)


def open_http(request: urllib.request.Request, timeout: float) -> Any:
    """The answer to a request over HTTP; credentials in its address are sent as such, redirects lead to HTTP only.

    Raises:
        OSError: The server refuses or can't be reached, or sends one elsewhere.
        ValueError: The address is none.
        HTTPException: Its answer is none.
    """
    parts = urlsplit(request.full_url)
    if (credentials := basic_credentials(parts)) is not None:
        request.add_header("Authorization", credentials)
        request.full_url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return _opener.open(request, timeout=timeout)


def basic_credentials(parts: SplitResult) -> str | None:
    """The header that sends the user and password of an address; None where it has none."""
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTP only: Python's own would go to FTP, too. Credentials stay with the host that they are for."""

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request to send instead."""
        if not is_http(newurl):
            raise urllib.error.HTTPError(req.full_url, code, f"sends one to {shown(newurl)}, which is not HTTP", headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


_opener = urllib.request.build_opener(_HttpOnly)


def is_http(url: str) -> bool:
    """Whether an address is that of an HTTP server."""
    return url.lower().startswith(("http://", "https://"))


def _is_of_product(url: str, head: bytes) -> bool:
    """Whether a file is the metadata of a product, which are part of a scene and no image, or one of its JPEG 2000 images."""
    name = path_of(url).rpartition("/")[2]
    if name.lower().endswith(".jp2"):
        return head.startswith(JP2_STARTS)
    return LANDSAT.fullmatch(name) is not None or SENTINEL2.fullmatch(name) is not None


def _probe_once(url: str) -> RemoteFacts:
    request = urllib.request.Request(url, headers={"Range": f"bytes=0-{HEAD - 1}"})  # noqa: S310 - the scheme was checked
    with open_http(request, TIMEOUT_S) as response:
        head = response.read(HEAD)
        content_range = response.headers.get("Content-Range", "")
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        status = response.status
    if (kind := sniff(head[:512])) is not None and not _is_of_product(url, head):
        what = "a VRT, which is not opened from a server" if kind == "vrt" else kind
        if "archive" in kind:
            what = "an archive, none of which is read from a server; download it and give the file"
        raise NotARasterError(f"{shown(url)}: {what}. Accepted: {accepted_formats()}")
    size = content_range.rpartition("/")[2]
    if status != 206 or not (size.isascii() and size.isdigit()):
        raise ReadError(f"{shown(url)}: the server can't serve parts of a file (no byte ranges); download the file first")
    return RemoteFacts(int(size), version, head)
