"""Observed events: the features of a result in the area of interest, and their sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import NOT_ANALYSED
from geoseg.damage.scale import CLASSES
from geoseg.digits import figures
from geoseg.vectors.opening import PARQUET, open_parquet, open_vector
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from pipeline.deliver.extents import Extents, moved_to
from pipeline.deliver.result import Result

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Observed", "SummaryRow", "Totals", "buildings_in_area", "observed_events"]

DAMAGE = "damage_gra"
"""The column of the damage of buildings in the vector packages of Copernicus EMS."""
GRADES = dict(zip(CLASSES, ("No visible damage", "Possibly damaged", "Damaged", "Destroyed"), strict=True))
"""Its values, by class. Those of EMS are between classes of the Joint Damage Scale: the nearest stands for each."""

# A column is named as no field can be.
SummaryRow = TypedDict(
    "SummaryRow",
    {
        "class": str,
        "unit": str,
        "affected": float,
        "total_in_aoi": float,
        "share_percent": float | None,
        "features": int,
        "features_area_ha": float,
        "estimated": NotRequired[float | None],
        "low_95": NotRequired[float | None],
        "high_95": NotRequired[float | None],
    },
)
"""A row of ``summary.csv``: numbers of buildings are whole, what a sample estimates is not."""


@dataclass(slots=True)
class Observed:
    """Sums over the observed events."""

    names: dict[int, str] = field(default_factory=dict)
    count: dict[int, int] = field(default_factory=dict)
    """Features of the source by code; one that the border cuts into parts is one."""
    area_mm2: dict[int, int] = field(default_factory=dict)
    """Square millimetres, whole numbers, so that sums don't depend on batches."""
    unknown: int = 0
    """Buildings in the area of interest that were not analysed."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of the features of a delivery."""

    rows: Sequence[SummaryRow]
    """Of the summary."""
    sums: Observed


def observed_events(
    result: Result, extents: Extents, constants: Mapping[str, str | int], sums: Observed
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The features of a result in the area of interest, batch by batch, and their sums in ``sums`` when they are through.

    Polygons are cut at its border, and their areas with them; buildings are taken whole where their middle lies inside.
    """
    import pyarrow as pa

    file = result.features
    fields = [f for f in _fields(file) if f.name.lower() not in ("fid", "geom", "geometry", DAMAGE, *constants)]
    kept = [f.name for f in fields]
    # Of a feature that the border cuts into parts each has this number, and GeoJSON wants an id to be one of a kind.
    said = [f.with_name("object_id") if f.name == "id" else f for f in fields]
    schema = pa.schema(
        [
            *(pa.field(name, pa.int32() if isinstance(value, int) else pa.string()) for name, value in constants.items()),
            *([pa.field(DAMAGE, pa.string())] if result.by_number else ()),
            *said,
            pa.field("clipped", pa.int16()),
            pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"}),
        ]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        for shapes, columns in file.batches(tuple(kept)):
            yield _events(shapes, columns, result, extents, constants, schema, sums)

    return schema, batches()


def buildings_in_area(result: Result, extents: Extents, unknown: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """All buildings of which the middle lies in the area of interest, those that were not analysed, too, by class.

    Args:
        result: The buildings.
        extents: The areas.
        unknown: The class of those that were not analysed.
    """
    import pyarrow as pa
    import shapely

    file = result.features
    assert file.crs is not None
    source = file.crs
    schema = pa.schema(
        [
            pa.field("class", pa.string()),
            pa.field("area_m2", pa.float64()),
            pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"}),
        ]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        for shapes, columns in file.batches(("code", "class", "area_m2")):
            codes = _codes(columns, len(shapes), Observed())
            rows = np.flatnonzero(~(shapely.is_missing(shapes) | shapely.is_empty(shapes)))
            if not len(rows):
                continue
            there = np.asarray(moved_to(shapely.force_2d(shapes[rows]), source, result.crs))
            inside = shapely.contains_xy(extents.aoi, *shapely.get_coordinates(shapely.centroid(there)).T)
            chosen = rows[inside].tolist()
            names = columns.get("class") or [f"class {code}" for code in codes.tolist()]
            areas = columns.get("area_m2") or [None] * len(shapes)
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([unknown if codes[r] == NOT_ANALYSED else names[r] for r in chosen], pa.string()),
                    pa.array([areas[r] for r in chosen], pa.float64()),
                    pa.array(shapely.to_wkb(_multi(there[inside])).tolist(), pa.binary()),
                ],
                schema=schema,
            )

    return schema, batches()


def _fields(file: PolygonFile) -> list[pa.Field]:
    """Names and types of the columns."""
    import pyarrow as pa

    source = open_vector(file.path)
    if source.driver == PARQUET:
        with open_parquet(source) as opened:
            return [
                pa.field(f.name, f.type) for f in opened.schema_arrow if f.name in file.fields and not pa.types.is_nested(f.type)
            ]
    info = source.info(file.layer)
    kinds = {"object": pa.string(), "bool": pa.bool_()}
    known = [kinds.get(str(kind)) or _number(str(kind)) for kind in info["dtypes"]]
    return [pa.field(str(name), kind) for name, kind in zip(info["fields"], known, strict=True) if kind is not None]


def _number(kind: str) -> pa.DataType | None:
    import pyarrow as pa

    return pa.from_numpy_dtype(np.dtype(kind)) if kind.startswith(("int", "uint", "float")) else None


def _events(
    shapes: Geometries,
    columns: Mapping[str, Sequence[object]],
    result: Result,
    extents: Extents,
    constants: Mapping[str, str | int],
    schema: pa.Schema,
    sums: Observed,
) -> pa.RecordBatch:
    import pyarrow as pa
    import shapely

    chosen = _chosen(shapes, _codes(columns, len(shapes), sums), result, extents, sums)
    rows = chosen.rows.tolist()
    area = columns.get("area_m2")
    size = np.array([np.nan if area is None or area[r] is None else area[r] for r in rows], np.float64)
    size = figures(size * chosen.share, 2)
    _add(sums, chosen, size)
    arrays = []
    for about in schema:
        if about.name in constants:
            arrays.append(pa.repeat(pa.scalar(constants[about.name], about.type), len(rows)))
        elif about.name == "geometry":
            arrays.append(pa.array(shapely.to_wkb(_multi(chosen.shapes)).tolist(), pa.binary()))
        elif about.name == DAMAGE:
            classes = columns.get("class") or [None] * len(shapes)
            arrays.append(pa.array([GRADES.get(str(classes[r])) for r in rows], pa.string()))
        elif about.name == "clipped":
            arrays.append(pa.array(chosen.cut))
        elif about.name in ("area_m2", "area_ha"):
            arrays.append(
                pa.array(size if about.name == "area_m2" else figures(size / 1e4, 4), from_pandas=True).cast(about.type)
            )
        else:
            values = [columns["id" if about.name == "object_id" and "id" in columns else about.name][r] for r in rows]
            if about.name == "perimeter_m":
                values = [None if cut else value for value, cut in zip(values, chosen.cut.tolist(), strict=True)]
            arrays.append(pa.array(values, about.type, from_pandas=True))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """Features of a batch in the area of interest (N,): whole ones, and parts of those that its border cuts."""

    rows: NDArray[np.int64]
    """Of the batch."""
    codes: NDArray[np.int64]
    shapes: Geometries
    cut: NDArray[np.int16]
    """1 for parts."""
    share: NDArray[np.float64]
    """Of the whole feature's area."""


def _chosen(shapes: Geometries, codes: NDArray[np.int64], result: Result, extents: Extents, sums: Observed) -> _Chosen:
    import shapely

    assert result.features.crs is not None
    wanted = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    if not result.by_number:
        wanted &= codes != NOT_ANALYSED
    if result.observed is not None:
        wanted &= np.isin(codes, result.observed)
    rows = np.flatnonzero(wanted)
    there = np.asarray(shapely.force_2d(shapes[rows]))
    there = np.asarray(moved_to(there, result.features.crs, result.crs)) if len(there) else there
    if result.by_number:
        inside = (
            shapely.contains_xy(extents.aoi, *shapely.get_coordinates(shapely.centroid(there)).T)
            if len(there)
            else np.empty(0, bool)
        )
        judged = codes[rows] != NOT_ANALYSED
        # Buildings without a polygon lie in no area that was given; where none was, they are among all.
        sums.unknown += int((inside & ~judged).sum()) + (
            0 if extents.aoi_given else int((~wanted & (codes == NOT_ANALYSED)).sum())
        )
        rows, found = rows[inside & judged], there[inside & judged]
        part, share = np.zeros(len(rows), np.int16), np.ones(len(rows))
    else:
        rows, found, part, share = _clipped(rows, there, extents)
    return _Chosen(rows, codes[rows], found, part, share)


def _add(sums: Observed, chosen: _Chosen, area_m2: NDArray[np.float64]) -> None:
    for code in np.unique(chosen.codes).tolist():
        same = chosen.codes == code
        sums.count[code] = sums.count.get(code, 0) + len(np.unique(chosen.rows[same]))
        whole = np.rint(np.nan_to_num(area_m2[same]) * 1e6).astype(np.int64)
        sums.area_mm2[code] = sums.area_mm2.get(code, 0) + sum(whole.tolist())


def _multi(shapes: Geometries) -> Geometries:
    """All as multipolygons: databases and shapefiles want one type in a layer."""
    import shapely

    single = np.flatnonzero(shapely.get_type_id(shapes) == 3)
    found = np.array(shapes, object)
    if len(single):
        found[single] = shapely.multipolygons(found[single], indices=np.arange(len(single)))
    return found


def _codes(columns: Mapping[str, Sequence[object]], count: int, sums: Observed) -> NDArray[np.int64]:
    # Without a code nothing is known.
    codes = np.array([NOT_ANALYSED if code is None else code for code in columns.get("code", [0] * count)], np.int64)
    names = columns.get("class") or [f"class {code}" for code in codes.tolist()]
    for code, name in set(zip(codes.tolist(), names, strict=True)):
        sums.names.setdefault(code, str(name))
    return codes


def _clipped(
    rows: NDArray[np.int64], shapes: Geometries, extents: Extents
) -> tuple[NDArray[np.int64], Geometries, NDArray[np.int16], NDArray[np.float64]]:
    """Rows, polygons, whether they were cut, and the share of each whole; one row for each part."""
    import shapely

    inside = shapely.covers(extents.around, shapes)
    over = np.flatnonzero(~inside & shapely.intersects(extents.aoi, shapes))
    cut, owner = shapely.get_parts(shapely.intersection(shapely.make_valid(shapes[over]), extents.aoi), return_index=True)
    keep = (shapely.get_type_id(cut) == 3) & (shapely.area(cut) > 0)
    cut, owner = cut[keep], over[owner[keep]]
    share = shapely.area(cut) / np.maximum(shapely.area(shapes[owner]), np.finfo(np.float64).tiny)
    whole = np.flatnonzero(inside)
    source = np.concatenate([whole, owner])
    order = np.argsort(source, kind="stable")
    part = np.concatenate([np.zeros(len(whole), np.int16), np.ones(len(owner), np.int16)])
    all_ = np.concatenate([shapes[whole], cut])
    return rows[source[order]], all_[order], part[order], np.concatenate([np.ones(len(whole)), share])[order]
