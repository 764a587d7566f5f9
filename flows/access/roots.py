"""Whether a path or an address lies within roots, whatever it is written like; and what secrets it carries."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from glob import has_magic
from urllib.parse import unquote, urlsplit

__all__ = ["has_secret", "is_address", "is_within"]

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Programs disagree on what these mean in an address.
AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")
PORTS = {"http": 80, "https": 443}
USUAL_PORTS = {f"{prefix}{scheme}": port for scheme, port in PORTS.items() for prefix in ("", "stac+")}


@dataclass(frozen=True, slots=True)
class _Place:
    """Parts of an address that say where it leads."""

    scheme: str
    host: str
    path: str

    def holds(self, other: _Place) -> bool:
        same = (self.scheme, self.host) == (other.scheme, other.host)
        return same and (other.path == self.path or other.path.startswith(self.path.rstrip("/") + "/"))


def is_address(text: str) -> bool:
    """Whether a text begins with a scheme, as ``https://`` or ``stac+https://``; everything else is a path."""
    return SCHEME.match(text) is not None


def has_secret(text: str) -> bool:
    """Whether an address carries what may be a credential: a user, a query, a fragment."""
    if not is_address(text):
        return False
    rest = text.partition("://")[2]
    return "@" in rest.partition("/")[0] or "?" in rest or "#" in rest


def is_within(text: str, roots: Iterable[str]) -> bool:
    """Whether a path or an address is one of the roots or lies below one.

    Addresses are compared by scheme, host and path. Paths are absolute; ``..`` and links are resolved, and of a glob the
    folders before its first wildcard, after which there is no ``..``.
    """
    if is_address(text):
        place = _place(text)
        return place is not None and any(
            root is not None and root.holds(place) for root in map(_place, filter(is_address, roots))
        )
    real = _real(text)
    return real is not None and any(
        root is not None and (real == root or real.startswith(root.rstrip(os.sep) + os.sep))
        for root in (_real(root) for root in roots if not is_address(root))
    )


def _place(text: str) -> _Place | None:
    """None where an address can be read in more than one way."""
    if AMBIGUOUS.search(text):
        return None
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    path = unquote(unquote(parts.path))
    if AMBIGUOUS.search(path.replace(" ", "")) or "%2f" in parts.path.lower() or any(p in (".", "..") for p in path.split("/")):
        return None
    scheme = parts.scheme.lower()
    if port is not None and port != USUAL_PORTS.get(scheme):
        host = f"{host}:{port}"
    return _Place(scheme, host, posixpath.normpath(path) if path.strip("/") else "/")


def _real(text: str) -> str | None:
    """The path without links and wildcards; None where it is not absolute or can't be told."""
    if not os.path.isabs(text) or "\x00" in text:
        return None
    parts = text.split(os.sep)
    if has_magic(text) and not os.path.lexists(text):
        if os.pardir in parts:
            return None
        parts = parts[: next(number for number, part in enumerate(parts) if has_magic(part))]
    try:
        return os.path.realpath(os.sep.join(parts) or os.sep)
    except (OSError, ValueError):
        return None
