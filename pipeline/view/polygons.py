"""Polygons of a map: read once in a thread of their own, while the page draws the rasters."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from geoseg.arrays import I64
from geoseg.documents import Json
from geoseg.errors import GeosegError
from geoseg.polygons.features import ALIASES
from geoseg.tiles.polygon_store import Column, PolygonStore, read_polygons
from geoseg.tiles.vector_tiles import VectorTiles
from geoseg.tiles.web_mercator import Tile, lonlat_box
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.view.first import Figures, Order, figures_of, first_rows, order_of, scores

__all__ = ["PolygonLayer"]

LEFT_OUT = ("model_sha256", "geoseg_version")
"""Attributes of the run, which its record holds."""
KEPT_TILES = 48
"""Tiles that are kept for who comes back to a place; one of a dense map has 2 MB."""


class PolygonLayer:
    """The polygons of one map."""

    def __init__(self, path: Path, layer: str | None, pixel: float | None, order: Order) -> None:
        """Have them read.

        Args:
            path: Their file; it is opened in the thread, too.
            layer: Its layer, where it has several.
            pixel: Side of the map's pixels in metres of web Mercator; None without a raster.
            order: In which they are listed, and dots stay.
        """
        self._path, self._layer, self._pixel, self._order = path, layer, pixel, order
        self._lock = threading.Lock()
        self._read: tuple[VectorTiles, Figures] | None = None
        self._cut: Callable[[Tile], bytes] | None = None
        self._fault: str | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read, if nobody has."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._load, name="polygons", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Wait until they are read.

        Raises:
            GeosegError: They can't be.
        """
        self.start()
        assert self._thread is not None
        self._thread.join()
        if self._fault is not None:
            raise GeosegError(self._fault)

    def _load(self) -> None:
        try:
            store = read_polygons(PolygonFile.open(self._path, layer=self._layer), LEFT_OUT)
            figures = figures_of(store)
            whole = _completed(store, figures)
            tiles = VectorTiles(whole, self._pixel, figures.codes, order_of(figures, self._order))
            self._cut, self._read = lru_cache(KEPT_TILES)(tiles.tile), (tiles, figures)
        except (GeosegError, OSError, MemoryError) as error:
            self._fault = str(error) or "not enough memory for the polygons"

    @property
    def tiles(self) -> VectorTiles | None:
        """What cuts their tiles; None until they are read."""
        return None if self._read is None else self._read[0]

    @property
    def figures(self) -> Figures | None:
        """What they are ordered by; None until they are read."""
        return None if self._read is None else self._read[1]

    def listed(self, rows: I64) -> list[Mapping[str, Json]]:
        """Some of them as the page lists them; they are read."""
        assert self._read is not None, "they are read"
        return _listed(self._read[0].store, self._read[1], rows)

    def tile(self, tile: Tile) -> bytes | None:
        """A tile; None until they are read."""
        self.start()
        return None if self._cut is None else self._cut(tile)

    def document(self) -> dict[str, Json]:
        """What the page needs to know of them."""
        self.start()
        if self._fault is not None:
            return {"state": "failed", "message": self._fault}
        if self._read is None:
            return {"state": "reading"}
        tiles, figures = self._read
        store = tiles.store
        codes, counts = np.unique(figures.codes, return_counts=True)
        return {
            "state": "ready",
            "count": len(store),
            "leftOut": store.left_out,
            "maxZoom": tiles.max_zoom,
            "box": list(lonlat_box(store.box)) if len(store) else None,
            "labels": {name: ALIASES.get(name, name) for name in store.columns},
            "common": {name: value for name, column in store.columns.items() if (value := column.constant) is not None}
            if len(store) > 1
            else {},
            "classes": [
                {"code": code, "count": count, "name": _name(store, figures, code)}
                for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
            ],
            "confidence": None if figures.confidence is None else _range(figures.confidence),
            "area": _range(figures.areas),
            "order": self._order,
            "first": self.listed(first_rows(figures)),
        }


def _completed(store: PolygonStore, figures: Figures) -> PolygonStore:
    """With a class and an area of every polygon, by which the page filters them."""
    columns: dict[str, Column] = dict(store.columns)
    columns["code"] = Column(figures.codes)
    if "area_m2" not in columns:
        columns["area_m2"] = Column(figures.areas.round(1))
    return replace(store, columns=columns)


def _name(store: PolygonStore, figures: Figures, code: int) -> str | None:
    column = store.columns.get("class")
    row = np.flatnonzero(figures.codes == code)[:1]
    name = None if column is None else column.values(row)[0]
    return None if name is None else str(name)


def _range(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[float] | None:
    known = values[np.isfinite(values)]
    return [float(known.min()), float(known.max())] if known.size else None


def _listed(store: PolygonStore, figures: Figures, rows: I64) -> list[Mapping[str, Json]]:
    doubt, ids = scores(figures, "doubt")[rows].tolist(), store.columns.get("id")
    names = rows.tolist() if ids is None else ids.values(rows)
    found: list[Mapping[str, Json]] = []
    for i, (row, box) in enumerate(zip(rows.tolist(), store.places(rows), strict=True)):
        sure = math.nan if figures.confidence is None else float(figures.confidence[row])
        found.append(
            {
                "row": row,
                "id": names[i],
                "code": int(figures.codes[row]),
                "area": round(float(figures.areas[row]), 1),
                "confidence": sure if math.isfinite(sure) else None,
                "doubt": round(doubt[i], 1),
                "box": [round(value, 7) for value in box],
            }
        )
    return found
