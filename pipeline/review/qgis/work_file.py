"""The work file for QGIS: a GeoPackage with the polygons, columns for what is decided, a form, and a project beside it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyogrio
import pyogrio.errors
import pyproj
import shapely

from geoseg.documents import Json
from geoseg.errors import ConfigError, OutputError
from geoseg.formats.vector import FIXED_DATE, add_style
from geoseg.polygons.arrow_stream import write_batches
from geoseg.vectors.reprojecting import reprojected
from pipeline.files.outputs import check_new_file, output_file
from pipeline.review.decisions import shape_of
from pipeline.review.qgis.qgis_form import DECISIONS, work_form
from pipeline.review.qgis.qgis_project import ProjectLayers, project_text
from pipeline.review.replay import LONLAT
from pipeline.review.review_log import ReviewLog
from pipeline.review.reviewed_units import Units
from pipeline.review.standing import Standing, standing_of
from pipeline.review.subject import ReviewedPolygon, Subject, polygons_in
from pipeline.view.first import Figures, order_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FACTS", "LAYER", "export_work"]

LAYER, FACTS = "review", "review_facts"


@dataclass(frozen=True, slots=True)
class Exported:
    """A work file."""

    polygons: int
    done: int
    project: Path


def export_work(folder: Path, out: Path, *, overwrite: bool = False) -> Exported:
    """Write a work file and its project.

    Args:
        folder: The folder of a scene, or of one of its versions.
        out: The GeoPackage; the project gets its name.
        overwrite: Replace files that are there; another content is kept aside.

    Raises:
        ConfigError: There is no map to review.
        OutputError: A file is there.
    """
    if out.suffix.lower() != ".gpkg":
        raise ConfigError(f"--out: {out} does not end in .gpkg")
    project = out.with_suffix(".qgs")
    for path in (out, project):
        check_new_file(path, overwrite=overwrite)
    subject = Subject.open(folder)
    file = subject.polygons()
    assert file.crs is not None
    log = ReviewLog.read(subject.log, subject.run_id)
    standing, styles = standing_of(log.entries), subject.legend()[0]
    names = {style.code: style.name for style in styles}
    order = _order(subject)
    facts: Mapping[str, Json] = {
        "format": "geoseg-review/1",
        "scene": subject.record.scene,
        "version": subject.version,
        "run": subject.document().get("digest"),
        "decisions": len(log.entries),
        "classes": {str(code): name for code, name in names.items() if code < 254},
    }
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    done = 0
    with output_file(out) as part:
        rows = _Rows(subject, standing, names, order)
        try:
            write_batches(
                part,
                _schema(),
                rows.batches(),
                layer=LAYER,
                driver="GPKG",
                geometry_name="geom",
                geometry_type="MultiPolygon",
                crs=file.crs.to_wkt(),
                dataset_options={"VERSION": "1.3"},
                layer_options={"GEOMETRY_NAME": "geom", "FID": "fid"},
            )
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError) as error:
            raise OutputError(f"{out}: can't be written: {error}") from error
        done = rows.done
        _finish(part, facts, names, subject.units)
    with output_file(project) as part:
        layers = ProjectLayers.of(subject, out.resolve().parent, f"{out.name}|layername={LAYER}", styles)
        part.write_text(project_text(layers, file.crs), encoding="utf-8")
    return Exported(len(order), done, project)


def _order(subject: Subject) -> dict[tuple[int, int], int]:
    """Places of the polygons by id and part, from 1, those first that are worth most."""
    every = [one for _, polygons in polygons_in(subject.polygons()) for one in polygons]
    figures = Figures(
        np.array([one.code for one in every], np.int64),
        np.array([one.area_m2 for one in every], np.float64),
        np.array([np.nan if one.confidence is None else one.confidence for one in every], np.float64),
    )
    ranked = order_of(figures, subject.units.order).tolist()
    return {(every[row].id, every[row].part): place for place, row in enumerate(ranked, 1)}


class _Rows:
    """The rows of the layer, as GDAL takes them."""

    def __init__(
        self, subject: Subject, standing: Standing, names: Mapping[int, str], order: Mapping[tuple[int, int], int]
    ) -> None:
        self._subject, self._standing, self._names, self._order = subject, standing, names, order
        self._crs = subject.polygons().crs
        self.done = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, some at a time."""
        import pyarrow as pa

        for geometries, polygons in polygons_in(self._subject.polygons()):
            columns = zip(*(self._row(one) for one in polygons), strict=True)
            drawn = [self._shape(shape, one) for shape, one in zip(geometries, polygons, strict=True)]
            shapes = pa.array([shapely.to_wkb(shape) for shape in drawn], pa.binary())
            arrays = [pa.array(list(values), field.type) for values, field in zip(columns, _schema(), strict=False)]
            yield pa.RecordBatch.from_arrays([*arrays, shapes], schema=_schema())

    def _shape(self, shape: shapely.Geometry, one: ReviewedPolygon) -> shapely.Geometry:
        """The polygon as it stands: with its new outline, if somebody has drawn one."""
        stood = self._standing.polygons.get((self._subject.version, one.id, one.part))
        drawn = None if stood is None or stood.decided is None else stood.decided.geometry
        if drawn is None:
            return _multi(shape)
        (moved,) = reprojected(np.array([shape_of(drawn)], object), pyproj.CRS.from_user_input(LONLAT), self._crs)
        return _multi(moved)

    def _row(self, one: ReviewedPolygon) -> list[object]:
        stood = self._standing.polygons.get((self._subject.version, one.id, one.part))
        last = None if stood is None else stood.decided
        decision = None if last is None else DECISIONS[last.action]
        if stood is not None and stood.asked_by is not None:
            decision = DECISIONS["second"]
        self.done += decision is not None
        said = None if last is None or last.code is None else self._names.get(last.code)
        rest = None if last is None or last.rest is None else self._names.get(last.rest)
        comment = stood.comments[-1].comment if stood is not None and stood.comments else None
        return [
            *(self._order[(one.id, one.part)], one.id, one.part, one.code, one.name, one.area_m2, one.confidence),
            *(decision, said, rest, None if last is None else last.reason, comment, None if last is None else last.by),
        ]


def _multi(shape: shapely.Geometry) -> shapely.Geometry:
    return shape if shape.geom_type == "MultiPolygon" else shapely.MultiPolygon([shape])


def _schema() -> pa.Schema:
    import pyarrow as pa

    whole, text, number = pa.int64(), pa.string(), pa.float64()
    fields = [("place", whole), ("id", whole), ("part", whole), ("code", whole), ("map_class", text), ("area_m2", number)]
    fields += [("confidence", number), *((name, text) for name in ("decision", "class", "rest", "reason", "comment", "reviewer"))]
    shapes = pa.field("geom", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
    return pa.schema([*(pa.field(name, kind) for name, kind in fields), shapes])


def _finish(path: Path, facts: Mapping[str, Json], names: Mapping[int, str], units: Units) -> None:
    """Add what the file is of, its form, and an index by which QGIS goes from one to the next."""
    classes = [name for code, name in names.items() if code < 254]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE {FACTS} (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL)")
        connection.executemany(
            f"INSERT INTO {FACTS} (key, value) VALUES (?, ?)",  # noqa: S608 - a name of ours
            [(key, json.dumps(value)) for key, value in facts.items()],
        )
        connection.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) VALUES (?, 'attributes', ?, "
            "?, ?)",
            (FACTS, FACTS, "What this file is of; leave it as it is", FIXED_DATE),
        )
        connection.execute(f"CREATE INDEX review_place ON {LAYER} (place)")
        add_style(connection, LAYER, work_form(classes, units), "Form for review")
