"""Products on servers: the address of a Landsat product's metadata stands for the files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from geoseg.addresses import path_of, shown
from geoseg.errors import NotARasterError, ReadError, SceneError
from geoseg.scenes.products.container import MAX_METADATA, Container
from geoseg.scenes.products.landsat import read_landsat
from geoseg.scenes.products.product import Product
from geoseg.scenes.products.recognizing import LANDSAT, SENTINEL2
from geoseg.scenes.ranges.range_client import RangeClient
from geoseg.scenes.remote import is_http, is_remote
from geoseg.scenes.stac.signer import Signer
from geoseg.scenes.stac.signing import renewed, signed

__all__ = ["ServedContainer", "product_name", "read_served"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedContainer(Container):
    """The files beside one on a server, by the names that its metadata give; which of them are there is not known."""

    documents: Mapping[str, bytes]
    """Its metadata."""

    def find(self, name: str) -> str:
        """The file of a name; raises as that of a folder."""
        Container.find(self, name)
        if "/" in name:
            raise SceneError(f"{shown(self.path)}: its metadata name the file {name!r} in another folder; it was not opened")
        return name

    def gdal_path(self, name: str) -> str:
        """The address of one of its files: of the same server and folder, with the same query."""
        parts = urlsplit(self.path)
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
    return name.rpartition(".")[0] if SENTINEL2.fullmatch(name) else None


def read_served(address: str, signer: Signer | None) -> Product:
    """A product, as its metadata on a server describe it.

    Raises:
        SceneError: The metadata are missing, damaged, or contradict themselves; or it is of a kind that is not read from servers.
        ReadError: The server refuses or fails.
    """
    if SENTINEL2.fullmatch(_file_name(address)):
        raise NotARasterError(
            f"{shown(address)}: a Sentinel-2 product, whose images are JPEG 2000, which are not read from servers; download the "
            "product, or map its GeoTIFFs from a catalogue (stac+https://…)"
        )
    if not is_http(address):
        raise NotARasterError(f"{shown(address)}: products are read from HTTP servers; give its https address, or download it")
    try:
        urlsplit(address)
    except ValueError as error:
        raise ReadError(f"{shown(address)}: no valid address; check it, and write spaces as %20") from error
    name = _file_name(address)
    used = signed(address, signer)
    try:
        data = _content(used)
    except ReadError:
        if not renewed(address, signer, used):
            raise
        data = _content(signed(address, signer))
    return read_landsat(ServedContainer(address, "server", "", {name: len(data)}, documents={name: data}))


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
