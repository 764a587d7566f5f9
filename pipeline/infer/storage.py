"""Storage of chunk results: a folder, or an object store that all workers of a cluster reach."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from geoseg.errors import ConfigError, OutputError
from geoseg.redaction import cause_of, redact
from geoseg.scenes.remote import shown
from geoseg.transient import passing
from pipeline.files.atomic import atomic_path, refuse_link, remove_empty

__all__ = ["FolderStorage", "Storage", "open_storage"]

log = logging.getLogger(__name__)

CHUNK_FILE = re.compile(r"\.?\d{7}\.(objects\.|traced\.|squares\.)?([0-9a-f]{16}\.tmp\.)?(tif|npy|npz)|\.geoseg-[0-9a-f]{32}")
"""Names of chunk results, of what a kill has left of one (``pipeline.infer.chunk_store``), and of what workers are asked to find
(``pipeline.infer.dask_plugin``), and of parts of later stages (``pipeline.infer.stage_parts``)."""
OBJECT_STORES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "adl")


class Storage(Protocol):
    """Small files by name; each is there whole or not at all."""

    address: str
    """What ``open_storage`` takes to find the same files elsewhere."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file."""
        ...

    def get(self, name: str) -> bytes:
        """Read a file; raises FileNotFoundError."""
        ...

    def path(self, name: str) -> Path | None:
        """Path of a file on this machine; None for one in an object store."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def clear(self) -> None:
        """Remove all chunk results."""
        ...


def open_storage(address: str) -> Storage:
    """The storage at a folder or an address such as ``s3://bucket/prefix``.

    Raises:
        ConfigError: There is no support for such addresses.
    """
    scheme = urlsplit(address).scheme
    if scheme in ("", "file"):
        return FolderStorage(Path(address.removeprefix("file://")))
    return ObjectStorage(address)


class FolderStorage:
    """Files in a folder, which is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        refuse_link(folder)
        self._folder = folder.resolve()
        self.address = str(self._folder)

    def put(self, name: str, data: bytes) -> None:
        """Write a file; it is on the disk before its name is."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)

    def get(self, name: str) -> bytes:
        """Read a file."""
        return (self._folder / name).read_bytes()

    def path(self, name: str) -> Path:
        """Path of a file."""
        return self._folder / name

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self._folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the chunk results, and the folder if nothing else is in it: scratch space is shared."""
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if CHUNK_FILE.fullmatch(path.name):
                path.unlink(missing_ok=True)
        remove_empty(self._folder)


class ObjectStorage:
    """Objects under a prefix, through fsspec. Credentials and endpoints come from the environment, as for GDAL."""

    def __init__(self, address: str) -> None:
        import fsspec

        scheme = urlsplit(address).scheme
        options: dict[str, object] = {}
        try:
            if scheme in OBJECT_STORES:
                from obstore.fsspec import register

                register(scheme)
                options = {"client_options": {"allow_http": True, "timeout": "60s", "connect_timeout": "10s"}}
            self._files, prefix = fsspec.core.url_to_fs(address, **options)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"run.scratch: {shown(address)}: can't be used: {redact(str(error), address)}; object stores need pip install "
                "'geoseg[cloud]'"
            ) from error
        self.address = address
        self._prefix = prefix.rstrip("/")

    def put(self, name: str, data: bytes) -> None:
        """Write an object; stores show it only when it is whole."""
        try:
            self._files.pipe_file(f"{self._prefix}/{name}", data)
        except Exception as error:  # each store has errors of its own
            raise self._error("written", name, error) from error

    def get(self, name: str) -> bytes:
        """Read an object."""
        try:
            data: bytes = self._files.cat_file(f"{self._prefix}/{name}")
        except FileNotFoundError:
            raise
        except Exception as error:  # as above
            raise self._error("read", name, error) from error
        return data

    def path(self, name: str) -> None:
        """It has no place on this machine."""
        del name

    def remove(self, name: str) -> None:
        """Remove an object."""
        self._remove(name, lambda: [f"{self._prefix}/{name}"])

    def clear(self) -> None:
        """Remove the chunk results under the prefix."""
        self._remove("", lambda: [p for p in self._files.find(self._prefix) if CHUNK_FILE.fullmatch(p.rsplit("/", 1)[-1])])

    def _remove(self, name: str, find: Callable[[], list[str]]) -> None:
        try:
            paths = find()
            if paths:
                self._files.rm(paths)
        except FileNotFoundError:
            return
        except Exception as error:  # noqa: BLE001 - what is left behind costs room, but no map
            log.warning("%s", self._error("removed", name, error))

    def _error(self, what: str, name: str, error: Exception) -> OutputError:
        # Which of a store's errors pass can't be told from their types; a wrong setting is refused at the start.
        return passing(
            OutputError(
                f"{shown(self.address)}/{name}: can't be {what}: {cause_of(error, self.address)}; check --scratch, then run again"
            )
        )
