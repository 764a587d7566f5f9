"""Results into PostGIS: runs, features, views of the latest, and styles, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyproj

from geoseg.crs import named_crs
from geoseg.dialect import setting
from pipeline.load.connection import connected
from pipeline.load.copying import columns_of, copy_features, forget
from pipeline.load.database import Place, prepare, write_style
from pipeline.load.loaded_result import LoadedResult, results_of, srid_of

__all__ = ["SCHEMA", "Loaded", "load"]

SCHEMA = "geoseg"

PUT_RUN = """
INSERT INTO {schema}.runs (run, project, scene, kind, model, status, acquired, finished, table_name, features, warnings)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 0, %s)
ON CONFLICT (run) DO UPDATE SET model = EXCLUDED.model, status = EXCLUDED.status, acquired = EXCLUDED.acquired,
    finished = EXCLUDED.finished, loaded = now(), table_name = EXCLUDED.table_name, warnings = EXCLUDED.warnings
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A result that was loaded."""

    scene: str
    table: str
    """With its schema."""
    run: str
    features: int
    notes: tuple[str, ...] = ()


def load(
    out: Path,
    service: str | None = None,
    *,
    schema: str = SCHEMA,
    project: str = "",
    crs: str | None = None,
    progress: Callable[[Loaded], None] | None = None,
) -> list[Loaded]:
    """Load the results of an output folder into PostGIS: all, or none where anything fails.

    Args:
        out: Output of ``segment``, ``deforestation`` or ``damage``: of one scene, many, or a mosaic.
        service: Service of libpq, or an address without a password; by default the environment (``PGSERVICE``, ``PGHOST``, …).
        schema: Schema of the tables, made if it is not there.
        project: What tells scenes of one name apart: the latest run is that of a scene in a project.
        crs: CRS with an EPSG code that all geometries are brought to; by default that of each result.
        progress: Told of each result that was copied.

    Raises:
        ConfigError: The folder holds no result, ``crs`` is none, one has no EPSG code, or the database has no PostGIS.
        OutputError: The server can't be reached, or refuses something.
    """
    target = None if crs is None else named_crs(crs, setting("crs"))
    results = results_of(out, project)
    srids = [srid_of(result.features.path, target or result.features.crs) for result in results]
    done = []
    with connected(service) as connection:
        place = Place(connection, schema)
        for srid in sorted(set(srids)):
            place.check_srid(srid)
        for result, srid in zip(results, srids, strict=True):
            done.append(_load(place, result, srid, target))
            if progress is not None:
                progress(done[-1])
        for table in dict.fromkeys(f"{result.kind}_{srid}" for result, srid in zip(results, srids, strict=True)):
            connection.execute(place.named("CREATE INDEX IF NOT EXISTS {index} ON {table} USING gist (geom)", table))
            connection.execute(place.named("ANALYZE {table}", table))
    return done


def _load(place: Place, result: LoadedResult, srid: int, target: pyproj.CRS | None) -> Loaded:
    from psycopg.types.json import Jsonb

    table, columns = f"{result.kind}_{srid}", columns_of(result.features)
    prepare(place, table, srid, columns)
    connection = place.connection
    before = connection.execute(
        place.named("SELECT table_name FROM {schema}.runs WHERE run = %s", table), [result.run]
    ).fetchone()
    if before is not None and before[0] != table:
        forget(place, str(before[0]), result.run)
    facts = [result.run, result.project, result.scene, result.kind, result.model, result.status, result.acquired]
    connection.execute(place.named(PUT_RUN, table), [*facts, result.finished, table, Jsonb(list(result.warnings))])
    count = copy_features(place, table, result.run, result.features, columns, target)
    connection.execute(place.named("UPDATE {schema}.runs SET features = %s WHERE run = %s", table), [count, result.run])
    note = None if result.style is None else write_style(place, table, result.style)
    return Loaded(result.scene, f"{place.schema}.{table}", result.run, count, () if note is None else (note,))
