"""The map sheet of a result: background, legend, tables, extent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from numpy.typing import NDArray

import geoseg
from geoseg.codes import NOT_ANALYSED
from geoseg.errors import SceneTooLargeError
from geoseg.formats.preview import stretched
from geoseg.formats.sheet.content import LegendEntry, Outline, Picture, Sheet
from geoseg.formats.sheet.write import SheetReport, write_sheet
from geoseg.georeference import Georeference
from geoseg.scenes.gdal import gdal_env, open_raster
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from pipeline.deliver.events import Observed, SummaryRow, Totals
from pipeline.deliver.extents import Extents
from pipeline.deliver.result import Result
from pipeline.deliver.roads_and_places import surroundings_of
from pipeline.deliver.statement import statement
from pipeline.files.overviews import shrunken

if TYPE_CHECKING:
    import pyarrow as pa
    import shapely

    from pipeline.deliver.terms import Terms

__all__ = ["draw_sheet", "picture_of"]

PICTURE_PX = 1500
COLOR_KEPT, DARKNESS_KEPT = 0.45, 0.8
GAPS_DRAWN = 5_000
SHA_SHOWN = 12
SHOWN_HA = 0.05
"""Less would be 0.0 in the table; the summary has it."""


def draw_sheet(
    paths: Sequence[Path],
    result: Result,
    extents: Extents,
    terms: Terms,
    produced: str,
    totals: Totals,
    layers: tuple[PolygonFile, PolygonFile],
) -> SheetReport:
    """Draw the map sheet of a delivery.

    Args:
        paths: Files to write, ``.pdf`` and ``.png``.
        result: What is shown.
        extents: The areas.
        terms: What is said.
        produced: Date of production, ISO 8601.
        totals: What the features add up to.
        layers: The features, in the CRS of the result, and what was not analysed.
    """
    shown, gaps = layers
    picture, of = picture_of(result)
    outlines = [Outline("Area of interest", [extents.aoi], color="#1d2731", dashed=extents.aoi_given)]
    unseen = _some(gaps)
    if len(unseen):
        outlines.insert(0, Outline("Not analysed", list(unseen), color="#4a4f55", hatched=True, amount=_unknown(totals.rows)))
    return write_sheet(
        paths,
        replace(_sheet(result, terms, produced, totals, of), around=surroundings_of(terms.given, result, extents)),
        result.georeference,
        _box(result.georeference, extents.aoi),
        batches=_batches(shown),
        picture=picture,
        outlines=outlines,
    )


def _sheet(result: Result, terms: Terms, produced: str, totals: Totals, background: str) -> Sheet:
    """Texts and tables beside the map."""
    legend = _legend(result, totals.sums, totals.rows)
    dates = [image.acquired or "date unknown" for image in result.images]
    when = f"; event {terms.given.event_time}" if terms.given.event_time else ""
    return Sheet(
        title=terms.event,
        subtitle=f"{result.title}{', ' if dates else ''}{' to '.join(dict.fromkeys([*dates[:1], *dates[-1:]]))}{when}",
        legend=tuple(legend),
        table=_table(result, totals.rows, [entry.name for entry in legend]),
        produced=produced,
        sources=(
            *_images(result),
            *([f"Model: {_short(result.model)}"] if result.model else []),
            *([f"Background: {background}"] if background else []),
            *(f"{head}: {Path(path).name}" for head, path in _files(terms) if path),
        ),
        producer=", ".join(filter(None, (terms.producer, f"geoseg {geoseg.__version__}"))),
        edition=", ".join(filter(None, (f"version {terms.version}", terms.given.status))),
        contact=", ".join(terms.given.contact or ()),
        quality=statement(result),
        disclaimer=terms.disclaimer,
        licence=terms.licence,
        code=terms.code,
    )


def _files(terms: Terms) -> tuple[tuple[str, str | None], ...]:
    return ("Roads", terms.given.roads), ("Places", terms.given.places), ("Borders", terms.given.borders)


def _table(result: Result, rows: Sequence[SummaryRow], drawn: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    unit = "number" if result.by_number else "ha"
    known = _ordered([row for row in rows if row["unit"] == unit and row["affected"] >= SHOWN_HA], drawn)
    if any("estimated" in row for row in rows):
        told = ((row["class"], _amount(row["affected"]), _estimate(row)) for row in known)
        return (("Buildings", "counted", "estimate (95 %)"), *told)
    table = [("In the area of interest", unit, "share")]
    table += [
        (row["class"], _amount(row["affected"]), "" if row["share_percent"] is None else f"{row['share_percent']:.1f} %")
        for row in known
    ]
    return tuple(table)


def _estimate(row: SummaryRow) -> str:
    """An estimated number with its interval, for the table."""
    value, low, high = row.get("estimated"), row.get("low_95"), row.get("high_95")
    return "" if value is None or low is None or high is None else f"{value:,.0f} ({low:,.0f}-{high:,.0f})"


def _ordered(rows: list[SummaryRow], drawn: Sequence[str]) -> list[SummaryRow]:
    """Rows of the classes in the legend first; the rest in its order."""
    first = [*reversed(drawn)]
    return sorted(rows, key=lambda row: first.index(row["class"]) if row["class"] in first else len(first))


def _images(result: Result) -> list[str]:
    """A line an image: when, and which it is; of many only the first and the last say so."""
    last = len(result.images) - 1
    phase = {0: "Before: ", last: "After: "} if last else {}
    lines = [f"{phase.get(i, '')}{image.told}" for i, image in enumerate(result.images)]
    if last > 0 and result.offset:
        lines[-1] += f", {result.offset}"
    return lines


def _short(model: str) -> str:
    """A model with the first letters of its checksum; the layer source has all."""
    name, mark, digest = model.rpartition("sha256 ")
    return f"{name}{mark}{digest[:SHA_SHOWN]}"


def _unknown(rows: Sequence[SummaryRow]) -> str:
    """Area that was not analysed, for the legend."""
    row = next((row for row in rows if row["class"] == "not analysed"), None)
    if row is None or not row["affected"]:
        return ""
    return _amount(row["affected"]) + ("" if row["unit"] == "number" else f" {row['unit']}")


def _amount(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _legend(result: Result, sums: Observed, rows: Sequence[SummaryRow]) -> list[LegendEntry]:
    """From the least to the most severe where codes rise so; the first code of changes is loss, which lies on top."""
    codes = sorted(sums.count, reverse=not result.by_number)
    by_name = {row["class"]: row["affected"] for row in rows}
    found = []
    for code in codes:
        name = result.names.get(code, sums.names.get(code, f"class {code}"))
        amount = by_name.get(name, 0)
        found.append(LegendEntry(code, name, result.color(code, name), _amount(amount) + ("" if result.by_number else " ha")))
    return found


def _some(file: PolygonFile) -> Geometries:
    """The first polygons of a file: the layer has them all."""
    found: list[shapely.Geometry] = []
    for shapes, _ in file.batches(()):
        found += list(shapes[: GAPS_DRAWN - len(found)])
        if len(found) >= GAPS_DRAWN:
            break
    return np.array(found, object)


def _batches(file: PolygonFile) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import shapely

    for shapes, columns in file.batches(("code",)):
        codes = [NOT_ANALYSED if code is None else code for code in columns.get("code", [0] * len(shapes))]
        yield pa.RecordBatch.from_pydict(
            {"code": pa.array(codes, pa.int16()), "geometry": pa.array(shapely.to_wkb(shapes).tolist(), pa.binary())}
        )


def _box(place: Georeference, aoi: shapely.MultiPolygon) -> tuple[float, float, float, float]:
    """First row, first column, last row and last column of an area."""
    import shapely

    x, y = shapely.get_coordinates(aoi).T
    cols, rows = place.inverse @ (x, y)
    return float(rows.min()), float(cols.min()), float(rows.max()), float(cols.max())


def picture_of(result: Result) -> tuple[Picture | None, str]:
    """Background of the map and its name: the last image, else the classes; nothing where there is neither."""
    for image in reversed(result.images):
        try:
            return _image(image.path, result.georeference), f"{image.name}, stretched"
        except (OSError, ValueError, rasterio.errors.RasterioError, SceneTooLargeError):
            continue
    if result.raster is None:
        return None, ""
    with gdal_env(), open_raster(result.raster) as dataset:
        shape = _small(dataset)
        codes = dataset.read(1, out_shape=shape)
        place = _scaled(dataset, shape)
    table = np.zeros((256, 4), np.uint8)
    for code, name in result.names.items():
        text = result.color(code, name)
        table[code] = [*(int(text[i : i + 2], 16) for i in (1, 3, 5)), 255]
    return Picture(table[codes], place), "the classes"


def _small(dataset: rasterio.DatasetReader) -> tuple[int, int]:
    scale = max(1.0, max(dataset.shape) / PICTURE_PX)
    return max(1, round(dataset.height / scale)), max(1, round(dataset.width / scale))


def _scaled(dataset: rasterio.DatasetReader, shape: tuple[int, int]) -> Georeference:
    place = dataset.transform @ rasterio.Affine.scale(dataset.width / shape[1], dataset.height / shape[0])
    return Georeference(tuple(place)[:6], None if dataset.crs is None else dataset.crs.to_wkt())


def _image(path: str, target: Georeference) -> Picture:
    """A small copy of an image, in the CRS of the map."""
    image, valid, transform, crs = shrunken(path, PICTURE_PX)
    if crs is None or target.crs is None:
        raise ValueError("no CRS")
    place = Georeference(tuple(transform)[:6], crs.to_wkt())
    pixels = np.concatenate([_toned(stretched(image, valid)), np.where(valid, 255, 0).astype(np.uint8)[..., None]], axis=2)
    if rasterio.crs.CRS.from_user_input(place.crs) == rasterio.crs.CRS.from_user_input(target.crs):
        return Picture(pixels, place)
    return _warped(pixels, place, target)


def _toned(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paler and greyer, so that the colours of the classes stand out."""
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    toned = grey[..., None] + COLOR_KEPT * (pixels - grey[..., None])
    return np.asarray(255 - (255 - toned) * DARKNESS_KEPT, np.uint8)


def _warped(pixels: NDArray[np.uint8], place: Georeference, target: Georeference) -> Picture:
    from rasterio.transform import array_bounds
    from rasterio.warp import calculate_default_transform, reproject

    height, width = pixels.shape[:2]
    source = rasterio.Affine(*place.transform)
    with gdal_env():
        transform, wide, high = calculate_default_transform(
            place.crs, target.crs, width, height, *array_bounds(height, width, source), dst_width=width, dst_height=height
        )
        out = np.zeros((4, high, wide), np.uint8)
        reproject(
            np.ascontiguousarray(pixels.transpose(2, 0, 1)),
            out,
            src_transform=source,
            src_crs=place.crs,
            dst_transform=transform,
            dst_crs=target.crs,
        )
    return Picture(np.ascontiguousarray(out.transpose(1, 2, 0)), Georeference(tuple(transform)[:6], target.crs))
