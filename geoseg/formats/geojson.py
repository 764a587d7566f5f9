"""GeoJSON to the letter of RFC 7946, streamed.

WGS 84, right-hand rule, as many decimals as the pixels need, split at the antimeridian.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import shapely

from geoseg.arrays import F64, I64
from geoseg.digits import DEGREES
from geoseg.formats import _text
from geoseg.georeference import Georeference
from geoseg.polygons import _rings
from geoseg.polygons.features import GEOMETRY
from geoseg.polygons.placing import valid_polygons
from geoseg.polygons.rings import offsets_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FeaturePart", "longest_edge", "write_geojson", "write_geojson_parts"]

MAX_SAG_PX = 0.05

FeaturePart = tuple[Iterable["pa.RecordBatch"], Georeference, tuple[int, int]]


def write_geojson(path: Path, batches: Iterable[pa.RecordBatch], georeference: Georeference, shape: tuple[int, int]) -> int:
    """Write features as a FeatureCollection, one a line.

    A straight edge in the CRS is a curve in longitude and latitude; long edges get vertices in between, so that they
    stay within a twentieth of a pixel of their place. Both sides of a shared border get the same ones.

    Args:
        path: The file to write.
        batches: Features (``features.feature_schema``) in the raster's CRS.
        georeference: Where the raster's pixels lie.
        shape: Rows and columns of the raster.

    Returns:
        The number of features.

    Raises:
        GeoreferenceError: The CRS has no relation to WGS 84.
    """
    return write_geojson_parts(path, [(batches, georeference, shape)])


def write_geojson_parts(path: Path, parts: Iterable[FeaturePart]) -> int:
    """Write features of several rasters as one FeatureCollection, as ``write_geojson`` does.

    Args:
        path: The file to write.
        parts: The features of each raster, where its pixels lie, and its rows and columns.

    Returns:
        The number of features.
    """
    bounds = _Bounds()
    count, finest = 0, DEGREES
    with path.open("wb") as file:
        file.write(b'{"type":"FeatureCollection","features":[')
        for batches, georeference, shape in parts:
            step, decimals = longest_edge(georeference, shape), georeference.degree_decimals(shape)
            finest = max(finest, decimals)
            for batch in batches:
                written = _geometries(batch, georeference, step, decimals, bounds)
                for geometry, properties in zip(written, _properties(batch), strict=True):
                    file.write(b",\n" if count else b"\n")
                    _write_feature(file, geometry, *properties)
                    count += 1
        file.write(b"\n]")
        if count:
            file.write(b',"bbox":' + json.dumps(bounds.bbox(finest)).encode())
        file.write(b"}\n")
    return count


def _write_feature(file: BinaryIO, geometry: bytes, number: int, properties: bytes) -> None:
    file.write(b'{"type":"Feature","id":%d,"properties":%s,"geometry":%s}' % (number, properties, geometry))


class _Bounds:
    """The bounding box of all vertices; west of east where the antimeridian is crossed (RFC 7946, 5.2)."""

    def __init__(self) -> None:
        self._low, self._high = np.full(2, np.inf), np.full(2, -np.inf)
        self._west_of_180, self._east_of_180 = np.inf, -np.inf
        self.crosses = False

    def add(self, lonlat: F64) -> None:
        lon, lat = lonlat.T
        self._low = np.minimum(self._low, (lon.min(), lat.min()))
        self._high = np.maximum(self._high, (lon.max(), lat.max()))
        positive, negative = lonlat[:, 0][lonlat[:, 0] >= 0], lonlat[:, 0][lonlat[:, 0] < 0]
        self._west_of_180 = min(self._west_of_180, positive.min(initial=np.inf))
        self._east_of_180 = max(self._east_of_180, negative.max(initial=-np.inf))

    def bbox(self, decimals: int) -> list[float]:
        west, east = (self._west_of_180, self._east_of_180) if self.crosses else (self._low[0], self._high[0])
        return [round(float(v), decimals) for v in (west, self._low[1], east, self._high[1])]


def longest_edge(georeference: Georeference, shape: tuple[int, int]) -> float:
    """Length in units of the CRS beyond which a straight edge leaves its place by more than MAX_SAG_PX pixels."""
    if georeference.is_geographic:
        return np.inf
    height, width = shape
    pixel = abs(georeference.determinant) ** 0.5
    probe = 64.0
    worst = 0.0
    for row, col in ((0, 0), (0, width), (height, 0), (height, width), (height / 2, width / 2)):
        for d_row, d_col in ((probe, 0.0), (0.0, probe)):
            rows = row + d_row * np.array([-1.0, 0.0, 1.0])
            cols = col + d_col * np.array([-1.0, 0.0, 1.0])
            lonlat = georeference.lonlat(rows, cols)
            # The offset of the middle, against the length of the edge, in pixels.
            chord = np.hypot(*(lonlat[2] - lonlat[0])) / (2 * probe)
            worst = max(worst, float(np.hypot(*(lonlat[1] - (lonlat[0] + lonlat[2]) / 2)) / max(chord, 1e-300)))
    # The offset grows with the square of the length.
    return np.inf if worst <= 0 else pixel * max(16.0, 2 * probe * (MAX_SAG_PX / worst) ** 0.5)


def _geometries(
    batch: pa.RecordBatch, georeference: Georeference, step: float, decimals: int, bounds: _Bounds
) -> Iterator[bytes]:
    geometries = shapely.from_wkb(np.asarray(batch.column(GEOMETRY).to_numpy(zero_copy_only=False), dtype=object))
    _, xy, (rings, polygons) = shapely.to_ragged_array(geometries)
    rings, polygons = rings.astype(np.int64), polygons.astype(np.int64)
    if np.isfinite(step):
        xy, rings = _densify(xy, rings, step)
    lonlat = np.ascontiguousarray(georeference.xy_to_lonlat(xy))
    over = np.abs(lonlat[:, 0]) > 180
    if over.any():
        lonlat[over, 0] = (lonlat[over, 0] + 180) % 360 - 180
    if len(lonlat):
        bounds.add(lonlat)
    jumps = np.abs(np.diff(lonlat[:, 0], append=lonlat[-1:, 0])) > 180
    jumps[rings[1:] - 1] = False
    split = np.zeros(len(polygons) - 1, np.bool_)
    if jumps.any():
        bounds.crosses = True
        split[np.searchsorted(rings[polygons], np.flatnonzero(jumps), side="right") - 1] = True
    lonlat = _right_handed(lonlat, rings, polygons)
    data, offsets = _text.coordinates_text(lonlat, rings, polygons, decimals)
    text = data.tobytes()
    for i in range(len(polygons) - 1):
        if split[i]:
            yield _split(lonlat, rings[polygons[i] : polygons[i + 1] + 1], decimals)
        else:
            yield b'{"type":"Polygon","coordinates":%b}' % text[offsets[i] : offsets[i + 1]]


def _densify(xy: F64, rings: I64, step: float) -> tuple[F64, I64]:
    """Divide edges longer than a step into equal parts. Rings are closed."""
    delta = np.diff(xy, axis=0, append=xy[-1:])
    parts = np.maximum(1, np.ceil(np.hypot(delta[:, 0], delta[:, 1]) / step)).astype(np.int64)
    parts[rings[1:] - 1] = 1
    if (parts == 1).all():
        return xy, rings
    start = np.repeat(np.arange(len(xy)), parts)
    number = np.arange(len(start)) - np.repeat(offsets_of(parts)[:-1], parts)
    stop = np.minimum(start + 1, len(xy) - 1)
    # Seen from the same end of the edge on both of its sides, so that both get the same bits.
    swap = (xy[stop, 0] < xy[start, 0]) | ((xy[stop, 0] == xy[start, 0]) & (xy[stop, 1] < xy[start, 1]))
    a, b = np.where(swap[:, None], xy[stop], xy[start]), np.where(swap[:, None], xy[start], xy[stop])
    share = np.where(swap, parts[start] - number, number) / parts[start]
    out = a + (b - a) * share[:, None]
    exact = number == 0
    out[exact] = xy[start[exact]]
    lengths = np.add.reduceat(parts, rings[:-1]) if len(rings) > 1 else np.empty(0, np.int64)
    return out, offsets_of(lengths)


def _right_handed(lonlat: F64, rings: I64, polygons: I64) -> F64:
    """Turn rings so that outer ones are counter-clockwise; needed only for projections that mirror."""
    rows_up = np.ascontiguousarray(lonlat[:, ::-1] * (-1.0, 1.0))
    area = _rings.ring_areas(rows_up, rings)
    outer = np.zeros(len(area), np.bool_)
    outer[polygons[:-1]] = True
    for ring in np.flatnonzero((area > 0) != outer).tolist():
        part = slice(rings[ring], rings[ring + 1])
        if np.abs(np.diff(lonlat[part, 0])).max(initial=0) <= 180:
            lonlat[part] = lonlat[part][::-1]
    return lonlat


def _split(lonlat: F64, rings: I64, decimals: int) -> bytes:
    """A polygon that crosses the antimeridian, cut there."""
    shell, *holes = (_unwrapped(lonlat[a:b]) for a, b in pairwise(rings.tolist()))
    if abs(shell[-1, 0] - shell[0, 0]) > 180:
        import antimeridian

        # It goes round a pole, which takes more than a cut.
        shape = antimeridian.fix_polygon(shapely.Polygon(lonlat[rings[0] : rings[1]]))
    else:
        middle = (shell[:, 0].min() + shell[:, 0].max()) / 2
        for hole in holes:
            hole[:, 0] += 360 * np.round((middle - (hole[:, 0].min() + hole[:, 0].max()) / 2) / 360)
        whole = shapely.Polygon(shell, holes)
        if not whole.is_valid:
            # Rings that meet at corners of pixels may cross there by a rounding, which GEOS refuses to cut.
            (whole,) = valid_polygons(np.array([whole], object))
        worlds = range(int(np.floor((whole.bounds[0] + 180) / 360)), int(np.ceil((whole.bounds[2] + 180) / 360)))
        parts = [
            shapely.transform(shapely.intersection(whole, shapely.box(360 * k - 180, -90, 360 * k + 180, 90)), _shift(-360 * k))
            for k in worlds
        ]
        areas = [part for part in shapely.get_parts(parts).tolist() if isinstance(part, shapely.Polygon)]
        shape = areas[0] if len(areas) == 1 else shapely.MultiPolygon(areas)
    shape = shapely.orient_polygons(shape, exterior_cw=False)
    return json.dumps(_rounded(shapely.geometry.mapping(shape), decimals), separators=(",", ":")).encode()


def _unwrapped(ring: F64) -> F64:
    """A ring whose longitudes go on beyond 180 degrees instead of jumping."""
    out = ring.copy()
    out[:, 0] = np.unwrap(ring[:, 0], period=360)
    return out


def _shift(degrees: float) -> Callable[[F64], F64]:
    return lambda points: np.add(points, (degrees, 0.0))


def _rounded(value: Any, decimals: int) -> Any:
    if isinstance(value, float):
        return round(value, decimals)
    if isinstance(value, list | tuple):
        return [_rounded(v, decimals) for v in value]
    if isinstance(value, dict):
        return {k: _rounded(v, decimals) for k, v in value.items()}
    return value


def _properties(batch: pa.RecordBatch) -> Iterator[tuple[int, bytes]]:
    """Id and properties of each feature."""
    names = [name for name in batch.schema.names if name != GEOMETRY]
    columns = [[f'"{name}":{text}' for text in _texts(batch.column(name))] for name in names]
    for number, *parts in zip(batch.column("id").to_pylist(), *columns, strict=True):
        yield number, ("{" + ",".join(parts) + "}").encode()


def _texts(values: pa.Array) -> list[str]:
    """Values as JSON: numbers as they are written, each text encoded once."""
    import pyarrow as pa

    if pa.types.is_string(values.type):
        encoded = values.dictionary_encode()
        words = [json.dumps(word, ensure_ascii=False) for word in encoded.dictionary.to_pylist()]
        return ["null" if index is None else words[index] for index in encoded.indices.to_pylist()]
    if (
        pa.types.is_floating(values.type)
        and not np.isfinite(values.to_numpy(zero_copy_only=False)[np.asarray(values.is_valid())]).all()
    ):
        raise ValueError("NaN and infinity have no place in JSON")
    return ["null" if value is None else repr(value) for value in values.to_pylist()]
