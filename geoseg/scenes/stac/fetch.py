"""Documents of a STAC catalogue, which anybody may have written: read within limits of size and time, over HTTP only."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from geoseg.addresses import shown
from geoseg.deadline import within
from geoseg.documents import parse_json
from geoseg.errors import DocumentError, ReadError
from geoseg.redaction import redact
from geoseg.scenes.remote import TIMEOUT_S, open_http
from geoseg.transient import is_transient, passing

__all__ = ["Fetched", "fetch"]

TRIES = 4
LIMIT = 64 << 20
"""Bytes of a page of a search, or of an item."""
PAGE_S = 120.0
"""Seconds that a page may take in all."""
HEADERS = {"Accept": "application/geo+json, application/json", "User-Agent": "geoseg"}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document of a server."""

    document: Any
    address: str
    """Where it was found at last, after redirects."""


def fetch(address: str, body: Mapping[str, object] | None = None) -> Fetched:
    """The JSON document at an address, asked for again where the server is busy.

    Args:
        address: An HTTP address.
        body: What is sent; nothing is sent by default.

    Raises:
        ReadError: The server does not answer, or not with a JSON document.
    """
    delay = 0.5
    for attempt in range(1, TRIES + 1):
        try:
            return within(PAGE_S, lambda: _fetched(address, body), "geoseg-stac")
        except DocumentError as error:
            raise passing(ReadError(str(error))) from error
        except ReadError:
            raise
        except urllib.error.HTTPError as error:
            reason, busy = f"the server answers {error.code}", error.code >= 500 or error.code == 429
            may_pass = is_transient(error)
        except (OSError, EOFError, HTTPException) as error:
            reason, busy, may_pass = redact(str(getattr(error, "reason", error)), address) or type(error).__name__, True, True
        except ValueError as error:
            raise ReadError(f"{shown(address)}: no valid address; check it, and write spaces as %20") from error
        if not busy or attempt == TRIES:
            break
        time.sleep(delay)
        delay *= 2
    told = ReadError(f"{shown(address)}: {reason}{f', {TRIES} times in a row' if busy else '; check the address'}")
    told.transient = may_pass
    raise told


def _fetched(address: str, body: Mapping[str, object] | None) -> Fetched:
    data = None if body is None else json.dumps(body).encode()
    more = {} if data is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(address, data, {**HEADERS, **more})  # noqa: S310 - the scheme was checked
    with open_http(request, TIMEOUT_S) as response:
        found, content = response.url, response.read(LIMIT + 1)
    if data is not None and found != request.full_url:
        # A redirect would drop what is sent, and with it what is searched.
        raise ReadError(f"{shown(address)}: the search was sent on to {shown(found)}; give that API's address")
    if len(content) > LIMIT:
        raise ReadError(f"{shown(address)}: answers more than {LIMIT >> 20} MiB; a document of a catalogue has less")
    return Fetched(parse_json(content, shown(address)), found)
