"""Polygons as vector tiles, cut when they are asked for: what is smaller than a pixel is a dot, so that no tile grows large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from geoseg.arrays import F64, I64, Bools
from geoseg.tiles.clipping import clip_rings, following, offsets_of, taken
from geoseg.tiles.mvt import EXTENT, Shapes, Value, layer_bytes, tile_bytes
from geoseg.tiles.polygon_store import WORLD, Column, PolygonStore
from geoseg.tiles.validity import made_valid
from geoseg.tiles.web_mercator import HALF, TILE_PX, Tile, native_zoom

__all__ = ["DOTS", "FILTERED", "MARGIN", "POLYGONS", "VectorTiles"]

POLYGONS, DOTS = "polygons", "dots"
"""Layers of a tile."""
MARGIN = 64
"""Units around a tile that are drawn, too, so that outlines do not show its sides."""
SMALL = EXTENT // TILE_PX
"""Features of fewer units a side are dots: those below one pixel."""
SNAP = SMALL // 2
"""Above the deepest level corners lie on a lattice of so many units, half a pixel: what is finer is not seen, only carried."""
DOT = 8 * SMALL
"""Of the dots of one class, one is kept in each square of so many units."""
MAX_ZOOM = 18
FILTERED = ("code", "area_m2", "confidence")
"""Attributes of dots: what they are filtered by. Who comes nearer is told the others."""


class VectorTiles:
    """Cuts the tiles of a store of polygons; safe for threads, for nothing of it changes."""

    def __init__(self, store: PolygonStore, pixel: float | None, codes: I64, order: I64, *, whole: bool = False) -> None:
        """Prepare it.

        Args:
            store: F features.
            pixel: Side of the pixels that they were traced from, in metres of the projection; None where it is not known.
            codes: (F,) their classes.
            order: (F,) their numbers, those first that dots are to stay of.
            whole: For who reads the tiles as data: all attributes, also texts that all features share, and valid polygons.
        """
        self.store = store
        self._codes, self._whole = codes, whole
        self._rank = np.empty(len(store), np.int64)
        self._rank[order] = np.arange(len(store))
        sides = (store.boxes[:, 2:] - store.boxes[:, :2]).max(axis=1)
        self._sides: I64 = sides.astype(np.int64)
        self._around = bool(len(store)) and int(store.boxes[:, 2].max()) > WORLD
        if pixel is None:
            # As deep as half of all polygons have a hundred units a side.
            pixel = 2 * HALF / WORLD * max(1.0, float(np.median(sides))) / 16 if len(store) else 1.0
        self.max_zoom = min(MAX_ZOOM, native_zoom(pixel))
        """There all features are polygons, and their corners are right to an eighth of a pixel."""
        # Texts that all share are told once, not in each tile.
        self.columns: Mapping[str, Column] = {
            name: column
            for name, column in store.columns.items()
            if whole or column.texts is None or len(store) < 2 or column.constant is None
        }
        """Attributes in the tiles."""

    def tile(self, tile: Tile) -> bytes:
        """A tile with the layers ``polygons`` and ``dots``; empty where there is nothing."""
        unit = WORLD / (1 << tile.z) / EXTENT
        parts = [self._at(tile, unit, shift) for shift in ((0, WORLD) if self._around else (0,))]
        return b"".join(parts)

    def _at(self, tile: Tile, unit: float, shift: int) -> bytes:
        side = unit * EXTENT
        origin = np.array([tile.x * side + shift, tile.y * side])
        low, high = origin - MARGIN * unit, origin + side + MARGIN * unit
        boxes = self.store.boxes
        near = (boxes[:, 0] <= high[0]) & (boxes[:, 2] >= low[0]) & (boxes[:, 1] <= high[1]) & (boxes[:, 3] >= low[1])
        rows = np.flatnonzero(near)
        drawn = self._sides[rows] >= SMALL * unit if tile.z < self.max_zoom else np.ones(len(rows), np.bool_)
        layers = []
        if drawn.any():
            shapes, kept = self._polygons(rows[drawn], origin, unit, 1 if tile.z >= self.max_zoom else SNAP)
            if len(kept):
                layers.append(layer_bytes(POLYGONS, shapes, kept, self._values(kept, list(self.columns))))
        if not drawn.all():
            layers += self._dots(rows[~drawn], origin, unit)
        return tile_bytes(layers)

    def _values(self, rows: I64, names: Sequence[str]) -> Mapping[str, list[Value]]:
        return {name: self.columns[name].values(rows) for name in names if name in self.columns}

    def _polygons(self, rows: I64, origin: F64, unit: float, snap: int) -> tuple[Shapes, I64]:
        """Rings of some features within a tile in its units, on a lattice of ``snap`` units, and which features have any."""
        store = self.store
        ring = taken(store.features, rows)
        rings = offsets_of(store.rings[ring + 1] - store.rings[ring])
        xy = ((store.xy[taken(store.rings, ring)] - origin) / (unit * snap)).round() * snap
        xy, rings = _straightened(*_without_repeats(xy, rings))
        xy, rings = clip_rings(xy, rings, -MARGIN, EXTENT + MARGIN)
        whole, rings = _without_repeats(xy.round(), rings)
        # A ring without area is not drawn, and a hole only in a ring that is.
        there = _twice_area(whole, rings) != 0
        number = np.full(store.rings.size, -1)
        number[ring] = np.arange(len(ring))
        there &= there[number[store.outer[ring]]]
        owner = np.repeat(np.arange(len(rows)), store.features[rows + 1] - store.features[rows])
        of_feature = np.bincount(owner[there], minlength=len(rows))
        kept = np.flatnonzero(there)
        shapes = Shapes(
            whole[taken(rings, kept)].astype(np.int64),
            offsets_of(np.diff(rings)[kept]),
            offsets_of(of_feature[of_feature > 0]),
        )
        drawn = rows[of_feature > 0]
        if not self._whole or not len(drawn):
            return shapes, drawn
        shapes, valid = made_valid(shapes, (store.outer[ring] == ring)[kept])
        return shapes, drawn[valid]

    def _dots(self, rows: I64, origin: F64, unit: float) -> list[bytes]:
        """The middles of small features: of each class the first in each square."""
        boxes = self.store.boxes[rows].astype(np.float64)
        middle = (((boxes[:, :2] + boxes[:, 2:]) / 2 - origin) / unit).round().astype(np.int64)
        inside = ((middle >= 0) & (middle < EXTENT)).all(axis=1)
        rows, middle = rows[inside], middle[inside]
        first = np.argsort(self._rank[rows])
        rows, middle = rows[first], middle[first]
        square = middle // DOT
        key = (self._codes[rows] * EXTENT + square[:, 0]) * EXTENT + square[:, 1]
        one = np.sort(np.unique(key, return_index=True)[1])
        if not len(one):
            return []
        count = np.arange(len(one) + 1)
        return [layer_bytes(DOTS, Shapes(middle[one], count, count), rows[one], self._values(rows[one], FILTERED), points=True)]


def _without_repeats(xy: F64, rings: I64) -> tuple[F64, I64]:
    """Rings without points that are where the one before is."""
    if not len(xy):
        return xy, rings
    full = np.flatnonzero(np.diff(rings))
    after = following(np.append(rings[full], rings[-1]))
    keep: Bools = (xy != xy[after]).any(axis=1)
    return xy[keep], offsets_of(keep.astype(np.int64))[rings]


def _straightened(xy: F64, rings: I64) -> tuple[F64, I64]:
    """Rings without points on the straight way from the one before to the one after."""
    if not len(xy):
        return xy, rings
    full = np.flatnonzero(np.diff(rings))
    after = following(np.append(rings[full], rings[-1]))
    onward = xy[after] - xy
    inward = np.empty_like(onward)
    inward[after] = onward
    keep: Bools = inward[:, 0] * onward[:, 1] != inward[:, 1] * onward[:, 0]
    return xy[keep], offsets_of(keep.astype(np.int64))[rings]


def _twice_area(xy: F64, rings: I64) -> F64:
    """(R,) twice the area of rings, with its sign."""
    out = np.zeros(len(rings) - 1)
    full = np.flatnonzero(np.diff(rings))
    if len(full):
        after = following(np.append(rings[full], rings[-1]))
        cross = xy[:, 0] * xy[after, 1] - xy[after, 0] * xy[:, 1]
        out[full] = np.add.reduceat(cross, rings[full])
    return out
