"""Searches of a STAC API: page by page, within limits, and on its own server only."""

from __future__ import annotations

import json
import re
from calendar import monthrange
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

from geoseg.addresses import is_remote, opens_elsewhere, shown
from geoseg.documents import Json, read_json
from geoseg.errors import ConfigError, DocumentError, ReadError
from geoseg.redaction import sanitized
from geoseg.scenes.stac.fetch import Fetched, fetch
from geoseg.transient import passing

__all__ = ["Box", "StacSearch", "found_items", "interval"]

PAGE = 250
"""Items of a page."""
MOST_EMPTY = 20
"""Pages without items after which a search is given up."""
DATE = re.compile(r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d))?)?")
PORTS = {"http": 80, "https": 443}
Box = tuple[float, float, float, float]
"""West, south, east, north in degrees; over the 180th meridian where west is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StacSearch:
    """What is searched, and what is taken of it."""

    collections: tuple[str, ...] = ()
    """Collections to search; all by default."""
    bbox: Box | None = None
    """West, south, east, north in degrees that an item touches."""
    datetime: str | None = None
    """A date or an interval."""
    max_cloud_cover: float | None = None
    """Items with more clouds, in percent, are passed over; so are those that do not say."""
    max_items: int = 10_000
    """Items to take at most."""
    near: Callable[[], Sequence[Box]] | None = None
    """Gives boxes of which an item of a table is to touch one; None where they may lie anywhere."""
    assets: tuple[str, ...] | None = None
    """Assets that make a scene; None to choose by bands."""
    bands: tuple[str, ...] = ()
    """Bands that a scene is to have."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A request for a page."""

    address: str
    body: Mapping[str, object] | None
    """What is sent; None to get the page."""

    @property
    def identity(self) -> str:
        """The same for the same page."""
        return f"{self.address} {json.dumps(self.body, sort_keys=True)}"


def found_items(api: str, search: StacSearch) -> Iterator[object]:
    """The items of a search as JSON, unchecked, in the order of the API.

    Args:
        api: The address of the API, or a file that holds its landing page.
        search: What is searched.

    Raises:
        ConfigError: The address is none.
        ReadError: The server does not answer as a STAC API does; its links lead elsewhere, or in a circle.
    """
    landing = _landing(api)
    asked: _Request | None = _first(api, landing, search)
    asked_before: set[str] = set()
    count = empty = 0
    while asked is not None and count < search.max_items:
        if asked.identity in asked_before:
            raise _bad(api, "its next links lead in a circle")
        asked_before.add(asked.identity)
        page = fetch(asked.address, asked.body).document
        features = page.get("features") if isinstance(page, dict) else None
        found = features if isinstance(features, list) else []
        empty = 0 if found else empty + 1
        if empty > MOST_EMPTY:
            raise _bad(api, f"{empty} pages without an item, one after the other")
        for item in found[: search.max_items - count]:
            count += 1
            yield item
        asked = _next(api, asked, page)


def _landing(api: str) -> Fetched:
    if is_remote(api):
        if not _is_http(api):
            raise ConfigError(f"source: stac+{shown(api)}: a STAC API has an https address")
        found = fetch(api)
    elif (why := opens_elsewhere(api)) is not None:
        raise ConfigError(f"source: stac+{shown(api)}: {why}; give the https address of an API")
    else:
        try:
            found = Fetched(read_json(Path(api)), api)
        except (OSError, DocumentError) as error:
            raise passing(ReadError(f"{shown(api)}: the STAC search failed: {sanitized(str(error))}")) from error
    return found


def _first(api: str, landing: Fetched, search: StacSearch) -> _Request:
    links = [link for link in _links(landing.document) if link.get("rel") == "search" and isinstance(link.get("href"), str)]
    if not links:
        raise _bad(api, "it has no search link, so it is no STAC API that can be searched; give the address of its landing page")
    methods = [str(link.get("method")).upper() for link in links if "method" in link]
    post = not methods or "POST" in methods
    link = next((link for link in links if str(link.get("method")).upper() == "POST"), links[0])
    address = _on_a_server(api, landing.address, str(link["href"]))
    body: dict[str, Json] = {"limit": min(PAGE, search.max_items)}
    if search.collections:
        body["collections"] = list(search.collections)
    if search.bbox is not None:
        body["bbox"] = list(search.bbox)
    if search.datetime is not None:
        body["datetime"] = interval(search.datetime)
    if post:
        return _Request(_with_user(api, address), body)
    query = urlencode({key: _text(value) for key, value in body.items()}, safe=",:/")
    return _Request(_with_user(api, f"{address}{'&' if '?' in address else '?'}{query}"), None)


def _next(api: str, asked: _Request, page: object) -> _Request | None:
    """The request that the next link of a page describes."""
    link = next((link for link in _links(page) if link.get("rel") == "next" and isinstance(link.get("href"), str)), None)
    if link is None:
        return None
    address = str(link["href"])
    if not _is_http(address):
        raise _bad(api, f"one of its links leads to {shown(address)}, which is not on a server")
    if _place(address) != _place(asked.address):
        raise _bad(api, f"its next link leads elsewhere, to {shown(address)}")
    if str(link.get("method", "GET")).upper() != "POST":
        return _Request(_with_user(asked.address, address), None)
    body = link.get("body")
    own = body if isinstance(body, dict) else {}
    merged = {**(asked.body or {}), **own} if link.get("merge") is True or not own else own
    return _Request(_with_user(asked.address, address), merged)


def _links(document: object) -> Sequence[Mapping[str, object]]:
    links = document.get("links") if isinstance(document, dict) else None
    return [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []


def _on_a_server(api: str, base: str, href: str) -> str:
    try:
        address = urljoin(base, href) if is_remote(base) else href
    except ValueError:
        address = ""
    if not _is_http(address):
        raise _bad(api, f"one of its links leads to {shown(href)}, which is not on a server")
    return address


def _is_http(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def _place(address: str) -> tuple[str | None, int | None]:
    """Host and port; a proxy may say http of what is https, so that their usual ports are the same."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None, None
    return parts.hostname, None if port in PORTS.values() else port


def _with_user(known: str, address: str) -> str:
    """An address with the credentials of another one on the same server."""
    user, mark, _ = urlsplit(known).netloc.rpartition("@") if is_remote(known) else ("", "", "")
    if not mark or _place(known) != _place(address) or "@" in urlsplit(address).netloc:
        return address
    parts = urlsplit(address)
    return parts._replace(netloc=f"{user}@{parts.netloc}").geturl()


def interval(text: str) -> str:
    """Dates as the APIs want them, with times; a year or a month is all of it."""
    ends = text.split("/")
    if len(ends) == 1:
        begin, end = _span(text)
        return text if begin == end else f"{begin}/{end}"
    return f"{_span(ends[0])[0]}/{_span(ends[1])[1]}"


def _span(text: str) -> tuple[str, str]:
    """The first and the last second of a year, a month or a day; any other text twice."""
    match = DATE.fullmatch(text.strip())
    if match is None:
        return text.strip(), text.strip()
    year, month, day = match["year"], match["month"], match["day"]
    try:
        last = day or f"{monthrange(int(year), int(month or 12))[1]:02}"
    except ValueError:
        return text, text
    return f"{year}-{month or '01'}-{day or '01'}T00:00:00Z", f"{year}-{month or '12'}-{last}T23:59:59Z"


def _text(value: Json) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _bad(api: str, what: str) -> ReadError:
    return passing(ReadError(f"{shown(api)}: the STAC search failed: {sanitized(what)}"))
