"""Addresses that items name: resolved against the item's own, on servers and in object stores unless the item is local."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote, urljoin, urlsplit

from geoseg.addresses import is_remote, opens_elsewhere, path_of, shown
from geoseg.errors import GeosegError

__all__ = ["UnfitError", "is_document", "own_address", "resolved"]

DOCUMENTS = (".json", ".geojson", ".parquet", ".geoparquet")
OF_API = re.compile(r".*/collections/[^/]+/items(?:/[^/]+)?/?")
"""Paths of items of a STAC API, which need no ending."""


class UnfitError(GeosegError, ValueError):
    """An item can't be a scene."""


def is_document(text: str) -> bool:
    """Whether a file or an address is that of a STAC document, by its name."""
    path = path_of(text) if is_remote(text) else text
    return path.lower().endswith(DOCUMENTS) or (is_remote(text) and OF_API.fullmatch(path) is not None)


def own_address(item: Mapping[str, object]) -> str | None:
    """The address that an item gives as its own."""
    links = item.get("links")
    own = (
        [link.get("href") for link in links if isinstance(link, dict) and link.get("rel") == "self"]
        if isinstance(links, list)
        else []
    )
    return next((href for href in own if isinstance(href, str)), None)


def resolved(asset: object, label: str, base: str | None, *, local: bool) -> str:
    """The address of an asset.

    Args:
        asset: The asset.
        label: The item's id, for messages.
        base: The item's own address.
        local: Whether the catalogue is a local file, so that its items may name local files.

    Raises:
        UnfitError: It has none, or one that is not opened.
    """
    href = asset.get("href") if isinstance(asset, dict) else None
    if not isinstance(href, str) or not href.strip() or "\0" in href:
        raise UnfitError(f"item {label} has an asset without an address")
    href = href.strip()
    if is_remote(href):
        return href
    if (why := opens_elsewhere(href)) is not None and not (href.lower().startswith("file://") and local):
        raise UnfitError(f"item {label}: {shown(href)}: {why}")
    if local and (base is None or not is_remote(base)):
        return _local(href, base or "")
    if base is None or not is_remote(base):
        raise UnfitError(f"item {label}: {href}: a path, but the item is on a server and does not say its own address")
    try:
        found = urljoin(base, href)
    except ValueError:
        found = ""
    if not is_remote(found):
        raise UnfitError(f"item {label}: {href}: is no address that can be resolved against the item's own")
    return found


def _local(href: str, base: str) -> str:
    """A path that an item of a local catalogue names."""
    path = unquote(urlsplit(href).path) if href.lower().startswith("file://") else href
    joined = os.path.join(os.path.dirname(base), path)
    # As addresses are: ``..`` takes the folder before it away, also where that one is a link.
    tidy = os.path.normpath(joined)
    return tidy if os.path.lexists(tidy) else joined
