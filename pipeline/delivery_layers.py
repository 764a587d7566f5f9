"""The layers of a delivery: area of interest, image footprints, what was not analysed, observed events."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.errors import ConfigError, OutputError, SceneTooLargeError
from geoseg.formats.vector import FIXED_DATE
from geoseg.scenes.scene import gdal_env
from pipeline.polygon_files import PolygonFile
from pipeline.results import Image, Result
from pipeline.shrink import shrunken

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Ground", "Observed", "add_layer", "export_layer", "geodesic_m2", "ground_of", "not_analysed", "observed_events"]

BATCH = 4096
MASK_PX = 1024
"""Side at which the valid pixels of an image are outlined."""
SEGMENTS = 64
"""Long edges are bent into another CRS by so many points."""
SLIVER_M = 0.02
"""Areas narrower than this are what rounding in files leaves between neighbours; more where a file is less exact."""
DRIVERS = {"geojson": "GeoJSON", "fgb": "FlatGeobuf", "shp": "ESRI Shapefile"}
REASONS = {
    NOT_ANALYSED: "not analysed: no result could be computed",
    NODATA: "no data: no valid pixels, or clouds that were masked",
}


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """The areas that a delivery speaks of, in the CRS of the result."""

    aoi: Any
    """The area of interest, a polygon or several; prepared."""
    around: Any
    """The same with ``slack_m`` more; what lies within is not cut."""
    slack_m: float
    """How far neighbours in files may be off, metres."""
    aoi_given: bool
    footprints: tuple[tuple[Image, Any, str], ...]
    """Images, where they have valid pixels, and how that is known."""
    extent: Any
    """What the result covers, no data included."""


@dataclass(slots=True)
class Observed:
    """Sums over the observed events."""

    names: dict[int, str] = field(default_factory=dict)
    count: dict[int, int] = field(default_factory=dict)
    """Features of the source by code; one that the border cuts into parts is one."""
    area_cm2: dict[int, int] = field(default_factory=dict)
    """Whole numbers, so that sums don't depend on batches."""
    unknown: int = 0
    """Buildings in the area of interest that were not analysed."""


def ground_of(result: Result, aoi: Path | None, assume_crs: str | None = None) -> Ground:
    """The areas of a result and the area of interest, which is where the images have data unless a file is given.

    Raises:
        ConfigError: The file can't be read, has no CRS, or does not meet the result.
    """
    import shapely

    extent = _extent(result)
    covered = _covered(result)
    footprints = tuple((image, *_footprint(image, result.crs, extent if covered is None else covered)) for image in result.images)
    if covered is None:
        covered = shapely.intersection_all([shape for _, shape, _ in footprints]) if footprints else extent
    area = covered if aoi is None else _aoi(aoi, result.crs, assume_crs)
    if not shapely.area(shapely.intersection(area, extent)) > 0:
        wanted = ", ".join(f"{value:.6g}" for value in _lonlat_bounds(area, result.crs))
        there = ", ".join(f"{value:.6g}" for value in _lonlat_bounds(extent, result.crs))
        raise ConfigError(
            f"{aoi or result.folder}: the area of interest (lon, lat {wanted}) does not meet the result ({there}); give one that does"
        )
    unit = 111_000.0 if result.crs.is_geographic else result.crs.axis_info[0].unit_conversion_factor
    slack = SLIVER_M
    if aoi is None and result.raster is not None:
        # Long edges of the coverage, a GeoJSON file, are off by up to a twentieth of a pixel.
        slack = max(slack, 0.1 * abs(result.georeference.determinant) ** 0.5 * unit)
    around = shapely.buffer(area, slack / unit, join_style="mitre")
    shapely.prepare([area, around])
    return Ground(area, around, slack, aoi is not None, footprints, extent)


def _aoi(path: Path, crs: pyproj.CRS, assume_crs: str | None) -> Any:
    import shapely

    file = PolygonFile.open(path, assume_crs)
    if file.crs is None:
        raise ConfigError(f"{path}: no CRS, so the area of interest has no place; give --assume-crs EPSG:xxxx")
    parts = [shapes[np.isin(shapely.get_type_id(shapes), (3, 6))] for shapes, _ in file.batches(())]
    shapes = np.concatenate([np.empty(0, object), *parts])
    if not len(shapes):
        raise ConfigError(f"{path}: holds no polygons, which an area of interest is; give one or more")
    return _polygonal(shapely.union_all(shapely.make_valid(_moved(shapely.force_2d(shapes), file.crs, crs))))


def _moved(shapes: Any, source: pyproj.CRS, target: pyproj.CRS) -> Any:
    """In another CRS, with long edges bent."""
    import shapely

    if source == target:
        return shapes
    left, bottom, right, top = shapely.total_bounds(shapes)
    step = max(right - left, top - bottom) / SEGMENTS
    move = pyproj.Transformer.from_crs(source, target, always_xy=True)
    bent = shapely.segmentize(shapes, step) if step > 0 else shapes
    moved = shapely.transform(bent, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    if not np.isfinite(shapely.total_bounds(moved)).all():
        raise ConfigError(f"some coordinates in {source.name} have no place in {target.name}; give polygons near the result")
    return moved


def _polygonal(shape: Any) -> Any:
    """Without the lines and points that operations leave."""
    import shapely

    parts = shapely.get_parts(shapely.get_parts(shape))
    return shapely.MultiPolygon(parts[shapely.get_type_id(parts) == 3].tolist())


def _extent(result: Result) -> Any:
    import shapely

    if result.raster is None:
        return shapely.box(*_bounds_in(result.features, result.crs))
    with gdal_env(), rasterio.open(result.raster) as dataset:
        corners = result.georeference.corners(dataset.height, dataset.width)
    return shapely.Polygon(corners)


def _bounds_in(file: PolygonFile, crs: pyproj.CRS) -> tuple[float, ...]:
    import shapely

    assert file.crs is not None
    return tuple(shapely.total_bounds(_moved(np.array([shapely.box(*file.bounds())]), file.crs, crs)).tolist())


def _covered(result: Result) -> Any | None:
    """Where there were data, by the coverage."""
    import shapely

    found = None
    if result.coverage is not None and result.coverage.crs is not None:
        for shapes, columns in result.coverage.batches(("code",)):
            known = shapes[np.array(columns["code"]) != NODATA]
            moved = shapely.make_valid(_moved(known, result.coverage.crs, result.crs)) if len(known) else known
            found = shapely.union_all([*moved, *([] if found is None else [found])])
    return None if found is None or shapely.is_empty(found) else _polygonal(found)


def _footprint(image: Image, crs: pyproj.CRS, otherwise: Any) -> tuple[Any, str]:
    """Where an image has valid pixels; what the map covers, where it can't be opened any more."""
    import shapely
    from rasterio.features import shapes

    try:
        _, valid, place, found_crs = shrunken(image.path, MASK_PX, 1)
    except (OSError, rasterio.errors.RasterioError, SceneTooLargeError):
        return otherwise, "coverage of the map"
    if found_crs is None:
        return otherwise, "coverage of the map"
    found = [shapely.geometry.shape(g) for g, v in shapes(valid.astype(np.uint8), transform=place) if v]
    source = pyproj.CRS.from_user_input(found_crs.to_wkt())
    if not found:
        return otherwise, "coverage of the map"
    moved = shapely.union_all(shapely.make_valid(_moved(np.array(found, object), source, crs)))
    return _polygonal(moved), f"valid pixels, outlined in {valid.shape[0]} rows and {valid.shape[1]} columns"


def _lonlat_bounds(shape: Any, crs: pyproj.CRS) -> list[float]:
    import shapely

    return [
        float(v) for v in shapely.total_bounds(_moved(np.array([shape], object), crs, pyproj.CRS.from_user_input("OGC:CRS84")))
    ]


def geodesic_m2(shape: Any, crs: pyproj.CRS) -> float:
    """Area on the ellipsoid, square metres (Karney 2013, doi:10.1007/s00190-012-0578-z)."""
    return _geodesic(shape, crs)[0]


def _geodesic(shape: Any, crs: pyproj.CRS) -> tuple[float, float]:
    """Square metres, and metres around."""
    import shapely

    if shapely.is_empty(shape):
        return 0.0, 0.0
    lonlat = _moved(np.array([shape], object), crs, pyproj.CRS.from_user_input("OGC:CRS84"))[0]
    parts = shapely.orient_polygons(shapely.get_parts(lonlat), exterior_cw=False)
    geod = pyproj.Geod(ellps="WGS84")
    found = [geod.geometry_area_perimeter(part) for part in parts if part.geom_type == "Polygon"]
    return float(sum(area for area, _ in found)), float(sum(border for _, border in found))


def observed_events(
    result: Result, ground: Ground, constants: Mapping[str, str | int], sums: Observed
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The features of a result in the area of interest, batch by batch, and their sums in ``sums`` when they are through.

    Polygons are cut at its border, and their areas with them; buildings are taken whole where their middle lies inside.
    """
    import pyarrow as pa

    file = result.features
    fields = [f for f in _fields(file) if f.name.lower() not in ("fid", "geom", "geometry", *constants)]
    kept = [f.name for f in fields]
    # Of a feature that the border cuts into parts each has this number, and GeoJSON wants an id to be one of a kind.
    said = [f.with_name("object_id") if f.name == "id" else f for f in fields]
    schema = pa.schema([
        *(pa.field(name, pa.int32() if isinstance(value, int) else pa.string()) for name, value in constants.items()),
        *said, pa.field("clipped", pa.int16()), pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"}),
    ])  # fmt: skip

    def batches() -> Iterator[pa.RecordBatch]:
        for shapes, columns in file.batches(tuple(kept)):
            yield _events(shapes, columns, result, ground, constants, schema, sums)

    return schema, batches()


def _fields(file: PolygonFile) -> list[pa.Field]:
    """Names and types of the columns."""
    import pyarrow as pa
    import pyogrio

    if file.path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(file.path) as opened:
            return [
                pa.field(f.name, f.type) for f in opened.schema_arrow if f.name in file.fields and not pa.types.is_nested(f.type)
            ]
    info = pyogrio.read_info(file.path, layer=file.layer)
    kinds = {"object": pa.string(), "bool": pa.bool_()}
    known = [kinds.get(str(kind)) or _number(str(kind)) for kind in info["dtypes"]]
    return [pa.field(str(name), kind) for name, kind in zip(info["fields"], known, strict=True) if kind is not None]


def _number(kind: str) -> pa.DataType | None:
    import pyarrow as pa

    return pa.from_numpy_dtype(np.dtype(kind)) if kind.startswith(("int", "uint", "float")) else None


def _events(
    shapes: NDArray[Any], columns: dict[str, list[Any]], result: Result, ground: Ground, constants: Mapping[str, str | int],
    schema: pa.Schema, sums: Observed,
) -> pa.RecordBatch:  # fmt: skip
    import pyarrow as pa
    import shapely

    assert result.features.crs is not None
    codes = _codes(columns, len(shapes), sums)
    wanted = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    if not result.by_number:
        wanted &= codes != NOT_ANALYSED
    if result.observed is not None:
        wanted &= np.isin(codes, result.observed)
    rows = np.flatnonzero(wanted)
    there = np.asarray(shapely.force_2d(shapes[rows]))
    there = np.asarray(_moved(there, result.features.crs, result.crs)) if len(there) else there
    if result.by_number:
        inside = (
            shapely.contains_xy(ground.aoi, *shapely.get_coordinates(shapely.centroid(there)).T)
            if len(there)
            else np.empty(0, bool)
        )
        judged = codes[rows] != NOT_ANALYSED
        sums.unknown += int((inside & ~judged).sum())
        rows, found = rows[inside & judged], there[inside & judged]
        part, share = np.zeros(len(rows), np.int16), np.ones(len(rows))
    else:
        rows, found, part, share = _clipped(rows, there, ground)
    area = columns.get("area_m2")
    size = np.array([np.nan if area is None or area[r] is None else area[r] for r in rows.tolist()], np.float64)
    size = np.round(size * share, 2)
    for code in np.unique(codes[rows]).tolist():
        chosen = codes[rows] == code
        sums.count[code] = sums.count.get(code, 0) + len(np.unique(rows[chosen]))
        sums.area_cm2[code] = sums.area_cm2.get(code, 0) + int(np.rint(np.nan_to_num(size[chosen]) * 1e4).sum())
    arrays = []
    for about in schema:
        if about.name in constants:
            arrays.append(pa.repeat(pa.scalar(constants[about.name], about.type), len(rows)))
        elif about.name == "geometry":
            arrays.append(pa.array(shapely.to_wkb(found).tolist(), pa.binary()))
        elif about.name == "clipped":
            arrays.append(pa.array(part))
        elif about.name in ("area_m2", "area_ha"):
            arrays.append(
                pa.array(size if about.name == "area_m2" else np.round(size / 1e4, 4), from_pandas=True).cast(about.type)
            )
        else:
            values = [columns["id" if about.name == "object_id" and "id" in columns else about.name][r] for r in rows.tolist()]
            if about.name == "perimeter_m":
                values = [None if cut else value for value, cut in zip(values, part.tolist(), strict=True)]
            arrays.append(pa.array(values, about.type, from_pandas=True))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _codes(columns: dict[str, list[Any]], count: int, sums: Observed) -> NDArray[np.int64]:
    codes = np.array([0 if code is None else code for code in columns.get("code", [0] * count)], np.int64)
    names = columns.get("class") or [f"class {code}" for code in codes.tolist()]
    for code, name in set(zip(codes.tolist(), names, strict=True)):
        sums.names.setdefault(code, str(name))
    return codes


def _clipped(rows: NDArray[np.int64], shapes: NDArray[Any], ground: Ground) -> tuple[Any, Any, Any, Any]:
    """Rows, polygons, whether they were cut, and the share of each whole; one row for each part."""
    import shapely

    inside = shapely.covers(ground.around, shapes)
    over = np.flatnonzero(~inside & shapely.intersects(ground.aoi, shapes))
    cut, owner = shapely.get_parts(shapely.intersection(shapely.make_valid(shapes[over]), ground.aoi), return_index=True)
    keep = (shapely.get_type_id(cut) == 3) & (shapely.area(cut) > 0)
    cut, owner = cut[keep], over[owner[keep]]
    share = shapely.area(cut) / np.maximum(shapely.area(shapes[owner]), np.finfo(np.float64).tiny)
    whole = np.flatnonzero(inside)
    source = np.concatenate([whole, owner])
    order = np.argsort(source, kind="stable")
    part = np.concatenate([np.zeros(len(whole), np.int16), np.ones(len(owner), np.int16)])
    all_ = np.concatenate([shapes[whole], cut])
    return rows[source[order]], all_[order], part[order], np.concatenate([np.ones(len(whole)), share])[order]


def not_analysed(result: Result, ground: Ground) -> Iterator[tuple[Any, str, float]]:
    """Areas within the area of interest of which nothing is known: their shape, the reason, square metres."""
    import shapely

    outside = _polygonal(shapely.difference(ground.aoi, ground.extent))
    if result.by_number:
        seen = shapely.union_all([shape for _, shape, _ in ground.footprints]) if ground.footprints else ground.extent
        outside = _polygonal(shapely.difference(ground.aoi, seen))
    area, border = _geodesic(outside, result.crs)
    if area > ground.slack_m * border:
        yield outside, "outside of the images", area
    file = result.features if result.by_number else result.coverage
    if file is None or file.crs is None:
        return
    for shapes, columns in file.batches(("code", "reason")):
        codes = np.array([NOT_ANALYSED if code is None else code for code in columns.get("code", [0] * len(shapes))])
        reasons = columns.get("reason") or [None] * len(shapes)
        for row in np.flatnonzero(np.isin(codes, (NOT_ANALYSED, NODATA))).tolist():
            moved = shapely.make_valid(_moved(np.array([shapes[row]], object), file.crs, result.crs))[0]
            common = _polygonal(shapely.intersection(moved, ground.aoi))
            area, border = _geodesic(common, result.crs)
            if area > ground.slack_m * border:
                yield common, reasons[row] or REASONS[int(codes[row])], area


class _Stream:
    """Record batches for GDAL."""

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        self._schema, self._batches = schema, batches

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self._schema, iter(self._batches)).__arrow_c_stream__(requested_schema)


def add_layer(
    package: Path, layer: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], crs: pyproj.CRS | None, kind: str = "Unknown"
) -> None:
    """Add a layer to a GeoPackage; a table without geometries where the CRS is None.

    Raises:
        OutputError: It can't be written.
    """
    import pyogrio
    import pyogrio.raw
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    place: dict[str, Any] = {"geometry_name": None, "geometry_type": None, "crs": None} if crs is None else {
        "geometry_name": "geometry", "geometry_type": kind, "crs": crs.to_wkt(),
    }  # fmt: skip
    options = {} if package.exists() else {"dataset_options": {"VERSION": "1.3"}}
    try:
        pyogrio.raw.write_arrow(_Stream(schema, batches), package, layer=layer, driver="GPKG", **place, **options)
    except (DataSourceError, DataLayerError, FeatureError) as error:
        raise OutputError(f"{package}: can't be written: {error}; make room or choose another place, then run again") from error


def export_layer(package: Path, layer: str, path: Path, kind: str) -> Path:
    """Write a layer of a GeoPackage to a file of its own: GeoJSON in longitude and latitude, others in their CRS."""
    import pyogrio
    import pyogrio.raw

    info = pyogrio.read_info(package, layer=layer)
    options = {"RFC7946": "YES"} if kind == "geojson" else {"ENCODING": "UTF-8"} if kind == "shp" else {}
    with (
        pyogrio.open_arrow(package, layer=layer, batch_size=BATCH, use_pyarrow=True) as (meta, reader),
        warnings.catch_warnings(),
    ):
        # Shapefiles shorten the names of fields, and FlatGeobuf has no index of nothing.
        warnings.simplefilter("ignore")
        pyogrio.raw.write_arrow(
            reader, path, layer=path.stem, driver=DRIVERS[kind], geometry_name=meta["geometry_name"], crs=meta["crs"],
            geometry_type="Unknown" if kind != "shp" else info["geometry_type"] or "Polygon", layer_options=options,
        )  # fmt: skip
    return path
