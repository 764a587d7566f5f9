"""Signers: who signs the addresses of a scene, and which of them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from geoseg.scenes.stac.told import Told

__all__ = ["PLANETARY_COMPUTER", "Signer"]

PLANETARY_COMPUTER = "planetary-computer"
SERVICE = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
BLOBS = ".blob.core.windows.net"
"""Azure's hosts of files; the first label is the account, the first part of the path the container."""


@dataclass(frozen=True, slots=True)
class Signer:
    """How the addresses of a scene are signed."""

    how: str
    """``planetary-computer``, the address of a token service of its kind, or a command that is given an address."""
    collection: str | None = None
    """The collection of the scene, by whose name a service gives tokens for files on its own server."""

    @classmethod
    def of(cls, how: str | None, told: Told | None) -> Signer | None:
        """The signer of a scene that a catalogue may tell of; None where nothing is signed."""
        return None if how is None else cls(how, None if told is None else told.collection)

    @property
    def service(self) -> str | None:
        """The address of the token service; None for a command."""
        if self.how == PLANETARY_COMPUTER:
            return SERVICE
        return self.how.rstrip("/") if self.how.lower().startswith(("http://", "https://")) else None

    def scope(self, address: str) -> str | None:
        """What one signature of a service is good for; None where the address is none of its own, and gets none."""
        assert self.service is not None
        parts, own = urlsplit(address), urlsplit(self.service)
        host, container = parts.hostname or "", parts.path.lstrip("/").partition("/")[0]
        if parts.scheme == "https" and host.endswith(BLOBS) and container:
            return f"{quote(host.removesuffix(BLOBS), safe='')}/{quote(container, safe='')}"
        if self.collection is not None and (parts.scheme, parts.netloc) == (own.scheme, own.netloc):
            return quote(self.collection, safe="")
        return None
