"""Products on servers: the address of the metadata of a Landsat or Sentinel-2 product stands for the files beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit

from geoseg.addresses import path_of, shown
from geoseg.errors import NotARasterError, ReadError, SceneError
from geoseg.scenes.products.container import MAX_METADATA, Container
from geoseg.scenes.products.landsat import read_landsat
from geoseg.scenes.products.product import Product
from geoseg.scenes.products.recognizing import LANDSAT, SENTINEL2
from geoseg.scenes.products.sentinel2 import read_sentinel2
from geoseg.scenes.ranges.range_client import RangeClient
from geoseg.scenes.remote import is_http, is_remote
from geoseg.scenes.stac.signer import Signer
from geoseg.scenes.stac.signing import renewed, signed

__all__ = ["ServedContainer", "is_not_there", "product_name", "read_served"]

NOT_THERE = (404, 410)
"""What servers answer where a file is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedContainer(Container):
    """The files beside one on a server, by the names that its metadata give; which of them are there is not known."""

    address: str
    """Of its metadata; the path is what may be shown of it."""
    signer: Signer | None
    """How its addresses are signed."""
    documents: dict[str, bytes]
    """Its metadata, as far as they were read."""

    def find(self, name: str) -> str | None:
        """The file of a name; None where it is a document that is not there. Raises as that of a folder."""
        Container.find(self, name)
        if name.lower().endswith(".xml") and name not in self.documents:
            try:
                self.documents[name] = _fetched(self.gdal_path(name), self.signer)
            except ReadError as error:
                if not is_not_there(error):
                    raise
                return None
        return name

    def gdal_path(self, name: str) -> str:
        """The address of one of its files: of the same server, in or below the same folder, with the same query."""
        parts = urlsplit(self.address)
        folder = parts.path.rpartition("/")[0]
        return parts._replace(path=f"{folder}/{quote(name)}", fragment="").geturl()

    def shown(self, name: str) -> str:
        """A file of it, for messages."""
        return shown(self.gdal_path(name))

    def read(self, name: str) -> bytes:
        """The content of a document of metadata."""
        return self.documents[name]


def product_name(address: str) -> str | None:
    """The name of the product whose metadata an address is; None for other addresses, and for paths."""
    if not is_remote(address):
        return None
    name = _file_name(address)
    if (match := LANDSAT.fullmatch(name)) is not None:
        return match["name"]
    if SENTINEL2.fullmatch(name) is None:
        return None
    folder = _file_name(path_of(address).rpartition("/")[0])
    return re.sub(r"\.SAFE$", "", folder, flags=re.IGNORECASE) or "scene"


def is_not_there(error: BaseException) -> bool:
    """Whether a server has said that it has no such file."""
    return isinstance(error.__cause__, HTTPError) and error.__cause__.code in NOT_THERE


def read_served(address: str, signer: Signer | None) -> Product:
    """A product, as its metadata on a server describe it.

    Raises:
        SceneError: The metadata are missing, damaged, or contradict themselves.
        ReadError: The server refuses or fails.
    """
    if not is_http(address):
        raise NotARasterError(f"{shown(address)}: products are read from HTTP servers; give its https address, or download it")
    try:
        urlsplit(address)
    except ValueError as error:
        raise ReadError(f"{shown(address)}: no valid address; check it, and write spaces as %20") from error
    name = _file_name(address)
    data = _fetched(address, signer)
    container = ServedContainer(
        shown(address), "server", "", {name: len(data)}, address=address, signer=signer, documents={name: data}
    )
    if SENTINEL2.fullmatch(name) is None:
        return read_landsat(container)
    found = read_sentinel2(container)
    return replace(found, facts=replace(found.facts, name=product_name(address) or found.facts.name))


def _fetched(address: str, signer: Signer | None) -> bytes:
    used = signed(address, signer)
    try:
        return _content(used)
    except ReadError:
        if not renewed(address, signer, used):
            raise
    return _content(signed(address, signer))


def _content(address: str) -> bytes:
    client = RangeClient(address)
    try:
        part = client.get(0, MAX_METADATA)
    finally:
        client.close()
    if part.size > MAX_METADATA:
        raise SceneError(f"{shown(address)}: {part.size:,} bytes; metadata have {MAX_METADATA:,} at most")
    return bytes(part.data)


def _file_name(address: str) -> str:
    return unquote(path_of(address).rpartition("/")[2])
