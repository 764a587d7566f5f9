"""``index.json``, ``collection.json``, ``items.parquet`` and ``index.html``: what an output folder holds."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

import shapely

from geoseg.errors import OutputError
from geoseg.formats.stac import collection_document
from geoseg.formats.stac_parquet import is_item_table, write_items
from pipeline.files.atomic import atomic_path, write_json
from pipeline.files.owned import digest_of, is_below, is_sealed_page, keep_aside, sealed, sealed_page
from pipeline.files.run_folder import REPORT
from pipeline.files.version import code_version

__all__ = [
    "COLLECTION",
    "INDEX",
    "INDEX_PAGE",
    "ITEMS",
    "Index",
    "IndexEntry",
    "overlap_warnings",
    "write_collection",
    "write_index",
    "write_page",
]

log = logging.getLogger(__name__)

INDEX, COLLECTION, INDEX_PAGE = "index.json", "collection.json", "index.html"
ITEMS = "items.parquet"
OVERLAP_SHARE = 0.02
AREA = "geoseg:area"
"""Property of items of maps of one feature of several areas of interest: its name."""


class IndexEntry(TypedDict, total=False):
    """The entry of a scene in ``index.json``; one that was read may lack some."""

    scene: str
    status: str
    reason: str | None
    outputs: list[str]
    """Files, relative to the index."""
    seconds: float
    warnings: list[str]
    transient: bool


class IndexDocument(TypedDict, total=False):
    """``index.json``."""

    warnings: list[str]
    scenes: list[IndexEntry]


class Index:
    """The entries of ``index.json`` by scene.

    Those of earlier runs stay while the maps that they speak of are there, and until others take their place.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._looked = out, False
        self._entries: dict[str, IndexEntry] = {
            entry["scene"]: entry
            for entry in _listed(out)
            if is_below(entry["scene"]) and (out / entry["scene"] / REPORT).is_file()
        }

    @property
    def entries(self) -> list[IndexEntry]:
        """All of them, by the names of the scenes."""
        return [self._entries[name] for name in sorted(self._entries)]

    def put(self, *entries: IndexEntry) -> None:
        """Set entries of scenes."""
        self._entries |= {entry["scene"]: entry for entry in entries}

    def forget(self, names: Iterable[str]) -> None:
        """Leave out entries of scenes whose maps were taken away."""
        for name in names:
            self._entries.pop(name, None)

    def write(self, warnings: Sequence[str] = ()) -> None:
        """Write the file.

        Raises:
            OutputError: It can't be written.
        """
        try:
            if not self._looked:
                _make_way(self._out / INDEX)
                self._looked = True
            _write(self._out / INDEX, {"warnings": list(warnings), "scenes": self.entries})
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"{self._out}: {INDEX} can't be written: {error.strerror}; make room or choose another --out"
            ) from error


def write_index(out: Path, entries: Iterable[IndexEntry], warnings: Sequence[str] = ()) -> None:
    """Write ``index.json`` with these entries, and those of earlier runs whose maps are there.

    Raises:
        OutputError: It can't be written.
    """
    index = Index(out)
    index.put(*entries)
    index.write(warnings)


def write_collection(out: Path, entries: Iterable[IndexEntry]) -> None:
    """Write the STAC Collection of the scenes that have outputs, and its items as a table."""
    items = _items(out, entries)
    document = collection_document(items)
    _make_way(out / COLLECTION)
    _write(out / COLLECTION, document)
    table = out / ITEMS
    if os.path.lexists(table) and (table.is_symlink() or not is_item_table(table)):
        _keep(table)
    with atomic_path(table) as part:
        write_items(part, items, document, code_version())


def write_page(out: Path, text: str) -> None:
    """Write ``index.html``, which people read; what somebody has put there is kept aside.

    Raises:
        OutputError: It can't be written.
    """
    path = out / INDEX_PAGE
    try:
        if os.path.lexists(path) and not is_sealed_page(path):
            _keep(path)
        with atomic_path(path) as part:
            part.write_text(sealed_page(text), encoding="utf-8")
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{out}: {INDEX_PAGE} can't be written: {error.strerror}; make room or choose another --out") from error


def _listed(out: Path) -> list[IndexEntry]:
    document = _own(out / INDEX)
    return [] if document is None else document.get("scenes", [])


def _own(path: Path) -> IndexDocument | None:
    """A document that geoseg has written and nobody has changed."""
    if path.is_symlink() or not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return document if document["digest"] == digest_of(document) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _make_way(path: Path) -> None:
    """Move aside what geoseg has not written, or somebody has changed."""
    if os.path.lexists(path) and _own(path) is None:
        _keep(path)


def _keep(path: Path) -> None:
    kept = keep_aside(path)
    log.warning("%s: was there, and geoseg had not written it so; it is kept as %s", path, kept and kept.name)


def _write(path: Path, document: Mapping[str, object]) -> None:
    write_json(path, sealed({**document, "geoseg": code_version()}), verbatim=True)


def _items(out: Path, entries: Iterable[IndexEntry]) -> dict[str, dict[str, Any]]:
    items = {}
    for entry in entries:
        path = out / entry["scene"] / "item.json"
        if entry["outputs"] and path.is_file():
            with suppress(OSError, ValueError, RecursionError):  # somebody may have changed it
                items[f"./{entry['scene']}/item.json"] = json.loads(path.read_text(encoding="utf-8"))
    return items


def overlap_warnings(out: Path, entries: Iterable[IndexEntry]) -> list[str]:
    """Scenes that show the same ground: what lies there is counted twice."""
    items = _items(out, entries)
    shapes = [
        (Path(href).parent.as_posix(), item["properties"].get(AREA), shapely.geometry.shape(item["geometry"]))
        for href, item in items.items()
        if item["geometry"]
    ]
    if len(shapes) < 2:
        return []
    tree = shapely.STRtree([shape for *_, shape in shapes])
    notes = []
    for i, (name, area, shape) in enumerate(shapes):
        for j in sorted(tree.query(shape, predicate="intersects").tolist()):
            other, other_area, other_shape = shapes[j]
            if area != other_area and None not in (area, other_area):
                # Features of one file of areas, of which each has a map of its own.
                continue
            share = shapely.intersection(shape, other_shape).area / max(min(shape.area, other_shape.area), 1e-12)
            if j > i and share > OVERLAP_SHARE:
                notes.append(f"{name} and {other} overlap by {share:.0%}: what lies there is counted twice")
    return notes[:100]
