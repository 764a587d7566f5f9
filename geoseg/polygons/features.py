"""Polygons with attributes, as Arrow record batches: what every vector format is written from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from geoseg.arrays import F32, F64, I32, I64, U8
from geoseg.digits import figures
from geoseg.georeference import Georeference
from geoseg.polygons.labelling import Measures
from geoseg.polygons.rings import Polygons

if TYPE_CHECKING:
    import pyarrow as pa

    from geoseg.polygons.origins import Origins

__all__ = ["ALIASES", "GEOMETRY", "MEANINGS", "Change", "FeatureFacts", "ObjectColumns", "feature_batches", "feature_schema"]

GEOMETRY = "geometry"
BATCH_WKB_BYTES = 16 << 20
BATCH_ROWS = 65536

ALIASES: Mapping[str, str] = {
    "id": "Id",
    "part": "Part (0: whole)",
    "code": "Class code",
    "class": "Class",
    "area_m2": "Area (m²)",
    "perimeter_m": "Perimeter (m)",
    "confidence": "Mean confidence (%)",
    "confidence_p10": "Confidence, 10th percentile (%)",
    "instance": "Number in instances.tif",
    "score": "Score of the object (0 to 1)",
    "confidence_p50": "Confidence, median (%)",
    "confidence_p90": "Confidence, 90th percentile (%)",
    "area_ha": "Area (ha)",
    "since": "Last date before",
    "until": "First date after",
    "before": "Class before",
    "after": "Class after",
    "scene": "Scene",
    "acquired": "Acquired",
    "scenes": "Scenes of its pixels",
    "dates": "Dates of its pixels",
    "model": "Model",
    "model_sha256": "Model sha256",
}
"""What people read, by field."""

MEANINGS: Mapping[str, str] = {
    "id": "Position of the polygon's first pixel in the raster, row by row; the same in every run",
    "part": "0, or the number of a piece of a polygon that was cut for its vertices (max_vertices); pieces share the id",
    "code": "Value of its pixels in classes.tif",
    "class": "Name of the class",
    "area_m2": "Geodesic area; of a simplified polygon that of its pixels, in proportion to what it covers",
    "perimeter_m": "Geodesic length of its rings",
    "confidence": "Mean over its pixels of the probability of the class",
    "confidence_p10": "What a tenth of its pixels do not exceed",
    "instance": "Value of its pixels in instances.tif, from 1",
    "score": "How sure the detector is of the object",
    "confidence_p50": "What half of its pixels do not exceed",
    "confidence_p90": "What nine tenths of its pixels do not exceed",
    "area_ha": "area_m2 in hectares",
    "since": "The last date at which the class before was there",
    "until": "The first date at which the class after was there",
    "before": "Class at since; null where the network does not say it",
    "after": "Class at until; null where the network does not say it",
    "scene": "Name of the scene; mosaic of a mosaic",
    "acquired": "Acquisition date, ISO 8601; null where nothing says it",
    "scenes": "Names of all scenes that its pixels are of, with commas between them",
    "dates": "The date of its pixels, or first/last; null where none is known",
    "model": "Name of the model",
    "model_sha256": "Identity of the model",
}
"""What each field is, with its unit where the alias has none."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change as its class says it."""

    since: str
    """The last date before."""
    until: str
    """The first date after."""
    before: str | None
    """The class before; None where a network that compares dates does not say it."""
    after: str | None
    """The class after."""


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """Facts that the features of one result have in common."""

    georeference: Georeference
    """Where the raster's pixels lie."""
    class_names: Mapping[int, str]
    """Names by code."""
    has_confidence: bool
    """Whether confidence was measured."""
    scene: str
    """Name of the scene."""
    acquired: str | None
    """Acquisition date, ISO 8601."""
    model: str | None
    """Name of the model."""
    model_sha256: str | None
    """Identity of the model."""
    min_area_m2: float = 0.0
    """Smaller features are left out: they have no neighbour that could take them over."""
    changes: Mapping[int, Change] = field(default_factory=dict)
    """Of a map of changes, what its classes say, by code."""
    written: Mapping[int, int] = field(default_factory=dict)
    """Codes as they are written, where they are others than those of the raster."""
    origins: Origins | None = None
    """Of a mosaic, which scenes pixels are of."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectColumns:
    """Columns of objects beyond those of regions."""

    number: I64
    """(N,) number in the raster of objects, from 1."""
    score: F32
    """(N,) how sure the detector is of each, 0 to 1."""
    median: U8
    """(N,) median of the confidence of its pixels, in percent."""
    p90: U8
    """(N,) its 90th percentile."""


def feature_schema(
    geometry_crs: str | None = None, *, objects: bool = False, changes: bool = False, origins: bool = False
) -> pa.Schema:
    """The fields of regions, of objects, of changes, or of a mosaic; the geometry is well-known binary."""
    import pyarrow as pa

    metadata = {"ARROW:extension:name": "geoarrow.wkb"}
    if geometry_crs is not None:
        import json

        metadata["ARROW:extension:metadata"] = json.dumps({"crs": geometry_crs})
    of_objects = [
        pa.field("instance", pa.int64(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("confidence_p50", pa.int16()),
        pa.field("confidence_p90", pa.int16()),
    ]
    of_changes = [
        pa.field("area_ha", pa.float64()),
        *(pa.field(name, pa.string()) for name in ("since", "until", "before", "after")),
    ]
    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("part", pa.int32(), nullable=False),
            pa.field("code", pa.int16(), nullable=False),
            pa.field("class", pa.string(), nullable=False),
            pa.field("area_m2", pa.float64()),
            pa.field("perimeter_m", pa.float64()),
            pa.field("confidence", pa.float64()),
            pa.field("confidence_p10", pa.int16()),
            *(of_objects if objects else ()),
            *(of_changes if changes else ()),
            pa.field("scene", pa.string(), nullable=False),
            pa.field("acquired", pa.string()),
            *((pa.field("scenes", pa.string()), pa.field("dates", pa.string())) if origins else ()),
            pa.field("model", pa.string()),
            pa.field("model_sha256", pa.string()),
            pa.field(GEOMETRY, pa.binary(), nullable=False, metadata=metadata),
        ]
    )


def feature_batches(
    polygons: Polygons,
    measures: Measures,
    part: I32 | None,
    facts: FeatureFacts,
    objects: ObjectColumns | None = None,
) -> Iterator[pa.RecordBatch]:
    """The polygons as record batches of ``feature_schema``.

    Area is geodesic: that of the region's pixels, in proportion to the polygon's area in pixels where borders were
    simplified. Perimeter is that of the polygon. Confidence is in percent.
    """
    part = np.zeros(len(polygons), np.int32) if part is None else part
    if facts.min_area_m2 > 0:
        keep = np.flatnonzero(measures.area_m2 >= facts.min_area_m2)
        if len(keep) < len(polygons):
            polygons, measures, part = polygons.take(keep), measures.take(keep), part[keep]
            objects = objects and _taken(objects, keep)
    for start, stop in _slices(polygons):
        which = np.arange(start, stop)
        whole = start == 0 and stop == len(polygons)
        yield _batch(
            polygons if whole else polygons.take(which),
            measures.take(which),
            part[which],
            facts,
            objects and _taken(objects, which),
        )


def _taken(objects: ObjectColumns, which: I64) -> ObjectColumns:
    return ObjectColumns(objects.number[which], objects.score[which], objects.median[which], objects.p90[which])


def _slices(polygons: Polygons) -> Iterator[tuple[int, int]]:
    """Ranges of polygons whose binary stays well below the limit of 32-bit offsets, if each single one does."""
    size = np.cumsum(16 * polygons.vertices + 64) // BATCH_WKB_BYTES
    cuts = np.flatnonzero(np.diff(size)) + 1
    edges = np.unique(np.concatenate([[0], cuts, np.arange(BATCH_ROWS, len(polygons), BATCH_ROWS), [len(polygons)]]))
    yield from pairwise(edges.tolist())


def _batch(
    polygons: Polygons, measures: Measures, part: I32, facts: FeatureFacts, objects: ObjectColumns | None
) -> pa.RecordBatch:
    import pyarrow as pa

    count = len(polygons)
    georeference = facts.georeference
    data, offsets = polygons.wkb(georeference)
    geometry = pa.BinaryArray.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)])
    names = np.array([facts.class_names.get(code, f"class {code}") for code in range(256)], dtype=object)
    written = np.array([facts.written.get(code, code) for code in range(256)], np.int16)
    nothing = pa.nulls(count)
    perimeter = polygons.perimeters(georeference)
    confidence = measures.confidence_sum / np.maximum(measures.pixels, 1)
    area = None if perimeter is None else measures.area_m2 * polygons.areas / measures.pixels
    before, behind = (
        [pa.repeat(pa.scalar(text, pa.string()), count) for text in texts]
        for texts in ((facts.scene, facts.acquired), (facts.model, facts.model_sha256))
    )
    origins = () if facts.origins is None else facts.origins.texts(measures.origin)
    columns = [
        pa.array(measures.anchor),
        pa.array(part),
        pa.array(written[measures.value]),
        pa.array(names[measures.value], pa.string()),
        nothing if area is None else pa.array(figures(area, 2)),
        nothing if perimeter is None else pa.array(figures(perimeter, 2)),
        pa.array(np.round(confidence, 1)) if facts.has_confidence else nothing,
        pa.array(measures.confidence_p10.astype(np.int16)) if facts.has_confidence else nothing,
        *([] if objects is None else _object_columns(objects)),
        *(_change_columns(facts, measures, area) if facts.changes else []),
        *before,
        *(pa.array(texts, pa.string()) for texts in origins),
        *behind,
        geometry,
    ]
    schema = feature_schema(objects=objects is not None, changes=bool(facts.changes), origins=facts.origins is not None)
    columns = [
        column.cast(field.type) if column.type != field.type else column for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _object_columns(objects: ObjectColumns) -> list[pa.Array]:
    import pyarrow as pa

    return [
        pa.array(objects.number),
        pa.array(np.round(objects.score.astype(np.float64), 4)),
        pa.array(objects.median.astype(np.int16)),
        pa.array(objects.p90.astype(np.int16)),
    ]


def _change_columns(facts: FeatureFacts, measures: Measures, area_m2: F64 | None) -> list[pa.Array]:
    import pyarrow as pa

    known = [facts.changes.get(code) for code in measures.value.tolist()]
    return [
        pa.nulls(len(known)) if area_m2 is None else pa.array(figures(area_m2 / 1e4, 4)),
        *(
            pa.array([None if change is None else getattr(change, name) for change in known], pa.string())
            for name in ("since", "until", "before", "after")
        ),
    ]
