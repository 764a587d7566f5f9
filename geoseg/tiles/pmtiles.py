"""PMTiles: a pyramid of tiles in one file, which pages read by ranges from any server of files.

The format, version 3: https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from geoseg.arrays import I64
from geoseg.documents import Json
from geoseg.tiles.mvt import EXTENT, varint
from geoseg.tiles.polygon_store import WORLD
from geoseg.tiles.vector_tiles import DOTS, FILTERED, MARGIN, POLYGONS, VectorTiles
from geoseg.tiles.web_mercator import Tile, lonlat_box

__all__ = ["tile_id", "write_pmtiles"]

MAGIC, VERSION = b"PMTiles", 3
HEADER = struct.Struct("<7sB11Q6B4iB2i")
GZIP, MVT, CLUSTERED = 2, 1, 1
BEGIN = 16384
"""Bytes in which the header and the root directory must lie; the tiles follow."""
LEAF = 4096
"""Entries of a leaf directory."""
E7 = 10_000_000
Entry = tuple[int, int, int]
"""Number, offset and length of a tile."""


def tile_id(tile: Tile) -> int:
    """The number of a tile: those of all levels above, and its place on a Hilbert curve."""
    x, y, along = tile.x, tile.y, 0
    side = 1 << tile.z
    half = side >> 1
    while half:
        right, down = int(bool(x & half)), int(bool(y & half))
        along += half * half * ((3 * right) ^ down)
        if not down:
            if right:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        half >>= 1
    return (side * side - 1) // 3 + along


def write_pmtiles(path: Path, tiles: VectorTiles, name: str) -> int:
    """Write all tiles of a store of polygons that hold something, from level 0 to the deepest. Returns their number.

    The same polygons give the same bytes. Tiles are cut one by one, and are not kept.

    Args:
        path: The file to write.
        tiles: What cuts the tiles.
        name: Of the map.
    """
    entries: list[Entry] = []
    offset = 0
    with path.open("wb") as file:
        file.seek(BEGIN)
        for number, tile in _numbered(tiles):
            if data := tiles.tile(tile):
                packed = gzip.compress(data, mtime=0)
                file.write(packed)
                entries.append((number, offset, len(packed)))
                offset += len(packed)
        root, leaves = _directories(entries)
        metadata = gzip.compress(json.dumps(_metadata(tiles, name), ensure_ascii=False).encode(), mtime=0)
        file.write(metadata + leaves)
        file.seek(0)
        after = BEGIN + offset
        places = (HEADER.size, len(root), after, len(metadata), after + len(metadata), len(leaves), BEGIN, offset)
        file.write(HEADER.pack(MAGIC, VERSION, *places, *[len(entries)] * 3, *_kinds(tiles), *_place(tiles)) + root)
    return len(entries)


def _kinds(tiles: VectorTiles) -> tuple[int, ...]:
    return CLUSTERED, GZIP, GZIP, MVT, 0, tiles.max_zoom


def _place(tiles: VectorTiles) -> tuple[int, ...]:
    """West, south, east and north in 1e-7 degrees, a level to begin with, and the middle."""
    if not len(tiles.store):
        return 0, 0, 0, 0, 0, 0, 0
    west, south, east, north = (round(value * E7) for value in lonlat_box(tiles.store.box))
    # What crosses the 180th meridian is counted on beyond it, and the numbers of the header end there.
    west, east = max(west, -180 * E7), min(east, 180 * E7)
    span = max((tiles.store.boxes[:, 2:].max(axis=0) - tiles.store.boxes[:, :2].min(axis=0)).tolist())
    level = max(0, min(tiles.max_zoom, (WORLD // max(1, span)).bit_length() - 1))
    return west, south, east, north, level, (west + east) // 2, (south + north) // 2


def _metadata(tiles: VectorTiles, name: str) -> dict[str, Json]:
    """The layers and their fields, as viewers ask for them."""
    fields = {key: "Number" if column.texts is None else "String" for key, column in tiles.columns.items()}
    levels: dict[str, Json] = {"minzoom": 0, "maxzoom": tiles.max_zoom}
    dots = {key: kind for key, kind in fields.items() if key in FILTERED}
    layers: list[Json] = [{"id": POLYGONS, "fields": {**fields}, **levels}, {"id": DOTS, "fields": {**dots}, **levels}]
    return {"name": name, "format": "pbf", "generator": "geoseg", "vector_layers": layers}


def _numbered(tiles: VectorTiles) -> Iterator[tuple[int, Tile]]:
    """The tiles that some feature may touch, by number."""
    boxes = tiles.store.boxes.astype(np.int64)
    shifts = (0, WORLD) if len(boxes) and int(boxes[:, 2].max()) > WORLD else (0,)
    level: list[tuple[Tile, list[I64]]] = [(Tile(0, 0, 0), [np.arange(len(boxes))] * len(shifts))] if len(boxes) else []
    for z in range(tiles.max_zoom + 1):
        yield from sorted((tile_id(tile), tile) for tile, _ in level)
        if z < tiles.max_zoom:
            level = [child for tile, rows in level for child in _children(tile, rows, boxes, shifts)]


def _children(tile: Tile, rows: list[I64], boxes: I64, shifts: Sequence[int]) -> Iterator[tuple[Tile, list[I64]]]:
    side = WORLD / (1 << tile.z + 1)
    around = side / EXTENT * MARGIN
    for x, y in ((2 * tile.x + i, 2 * tile.y + j) for j in (0, 1) for i in (0, 1)):
        kept = []
        for shift, some in zip(shifts, rows, strict=True):
            left, top, right, bottom = boxes[some].T
            across = (left <= (x + 1) * side + shift + around) & (right >= x * side + shift - around)
            kept.append(some[across & (top <= (y + 1) * side + around) & (bottom >= y * side - around)])
        if any(len(some) for some in kept):
            yield Tile(tile.z + 1, x, y), kept


def _directories(entries: Sequence[Entry]) -> tuple[bytes, bytes]:
    """The root directory, and leaf directories where the root would be too long."""
    root = _directory(entries)
    if len(root) <= BEGIN - HEADER.size:
        return root, b""
    size = LEAF
    while True:
        parts = [entries[i : i + size] for i in range(0, len(entries), size)]
        packed = [_directory(part) for part in parts]
        places = np.concatenate([[0], np.cumsum([len(one) for one in packed])]).tolist()
        # A run of no tiles stands for a leaf.
        root = _directory([(part[0][0], place, len(one)) for part, place, one in zip(parts, places[:-1], packed, strict=True)], 0)
        if len(root) <= BEGIN - HEADER.size:
            return root, b"".join(packed)
        size *= 2


def _directory(entries: Sequence[Entry], run: int = 1) -> bytes:
    numbers = [number for number, _, _ in entries]
    steps = [number - before for number, before in zip(numbers, [0, *numbers], strict=False)]
    words = [len(entries), *steps, *[run] * len(entries), *(length for _, _, length in entries)]
    end = -1
    for _, offset, length in entries:
        words.append(0 if offset == end else offset + 1)
        end = offset + length
    return gzip.compress(b"".join(map(varint, words)), mtime=0)
