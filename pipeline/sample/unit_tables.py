"""Tables of a sample's file: the layer that people label, and the tables ``design`` and ``design_facts`` that go with it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.dialect import number_of
from geoseg.documents import parse_json
from geoseg.errors import ConfigError
from geoseg.formats.vector import FIXED_DATE, add_style
from geoseg.vectors.opening import connect_read_only, open_vector
from geoseg.vectors.polygon_file import Geometries
from pipeline.files.outputs import output_file

__all__ = ["ReadTables", "Tables", "changed", "fill_in", "read_facts", "read_tables", "write_tables"]

SPATIAL = ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY")
"""Functions that the triggers of a GeoPackage name; labels call none of them."""
WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Tables:
    """What a sample's file holds beside its units' shapes and columns."""

    layer: str
    kind: str
    """Type of the geometries."""
    facts: Mapping[str, object]
    """Of the design, with its digest."""
    columns: Mapping[str, str]
    """Columns of the table ``design`` with their types, but for ``unit``."""
    rows: Iterable[Sequence[float]]
    """Its rows, unit by unit."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadTables:
    """What was read of a sample's file."""

    facts: Mapping[str, object]
    design: tuple[NDArray[np.generic], ...]
    """Columns of ``design``, ``unit`` first."""
    columns: Mapping[str, NDArray[np.generic]]
    """Of the layer, in its order."""
    geometry: Geometries
    count: int
    """Rows of the layer."""

    def order(self, path: Path, labels: Sequence[str]) -> NDArray[np.intp]:
        """Order of the layer's rows that is that of the design.

        Raises:
            ConfigError: Units or columns were added or are gone.
        """
        missing = [name for name in ("unit", *labels) if name not in self.columns]
        if missing:
            raise ConfigError(f"{path}: has no column {missing[0]!r} any more; restore it from a copy, or draw again")
        given = np.nan_to_num(self.columns["unit"].astype(np.float64), nan=-1).astype(np.int64)
        unit = self.design[0]
        known = set(given.tolist()) & set(unit.tolist())
        if self.count != len(unit) or len(known) != len(unit):
            lost = len(unit) - len(known)
            gone = f"{number_of(lost, 'unit')} {'is' if lost == 1 else 'are'}"
            raise ConfigError(
                f"{path}: {gone} gone and {self.count - len(known)} were added since it was drawn: "
                "it is no probability sample any more; label units that can't be told as such, and leave all in place"
            )
        return np.argsort(given)


def changed(path: Path) -> ConfigError:
    """The error of a design that is not as it was drawn."""
    return ConfigError(
        f"{path}: its tables design or design_facts were changed since the units were drawn: it is no probability sample "
        "any more; restore them from a copy, or draw again"
    )


def write_tables(
    path: Path, wkb: Geometries, columns: Mapping[str, NDArray[np.generic]], crs: str | None, tables: Tables, qml: str
) -> None:
    """Write a sample's file with the form that it is labelled by."""
    import pyogrio
    import pyogrio.raw

    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    with output_file(path) as part:
        pyogrio.raw.write(
            part,
            wkb,
            list(columns.values()),
            list(columns),
            geometry_type=tables.kind,
            crs=crs,
            driver="GPKG",
            layer=tables.layer,
            dataset_options={"VERSION": "1.3"},
            layer_options={"GEOMETRY_NAME": "geom", "FID": "fid"},
        )
        with closing(sqlite3.connect(part)) as connection, connection:
            connection.execute(
                "CREATE TABLE design_facts (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL)"
            )
            connection.executemany(
                "INSERT INTO design_facts (key, value) VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in tables.facts.items()],
            )
            typed = ", ".join(f"{name} {kind} NOT NULL" for name, kind in tables.columns.items())
            connection.execute(f"CREATE TABLE design (unit INTEGER PRIMARY KEY, {typed})")
            marks = ", ".join("?" * (1 + len(tables.columns)))
            connection.executemany(
                f"INSERT INTO design VALUES ({marks})",  # noqa: S608 - marks alone
                [(unit, *facts) for unit, facts in enumerate(tables.rows, 1)],
            )
            connection.executemany(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) VALUES (?, "
                "'attributes', ?, ?, ?)",
                [(name, name, "How the sample was drawn; leave it as it is", FIXED_DATE) for name in ("design", "design_facts")],
            )
            add_style(connection, tables.layer, qml, "Form for interpretation")


def fill_in(path: Path, layer: str, rows: Iterable[tuple[str | None, str | None, int]]) -> None:
    """Fill in labels and notes of units, by unit; None leaves what is there. All or none.

    Raises:
        sqlite3.Error: The file can't be written.
    """
    address = f"{path.resolve().as_uri()}?mode=rw"
    # QGIS may have it open: SQLite has writers take turns.
    with closing(sqlite3.connect(address, uri=True, timeout=WAIT_S)) as connection, connection:
        for name in SPATIAL:
            connection.create_function(name, 1, lambda *_: None)
        # A name of ours.
        change = f"UPDATE {layer} SET reference = coalesce(?, reference), note = coalesce(?, note) WHERE unit = ?"  # noqa: S608
        connection.executemany(change, rows)


def read_facts(path: Path) -> dict[str, object]:
    """The facts of a sample's design.

    Raises:
        ConfigError: It is no sample.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        with closing(connect_read_only(path)) as connection:
            told = connection.execute("SELECT key, value FROM design_facts").fetchall()
        return {key: parse_json(value, f"{path}: {key}") for key, value in told}
    except (sqlite3.DatabaseError, ValueError, OSError) as error:
        raise _no_sample(path, error) from error


def read_tables(path: Path, layer: str, columns: Iterable[str]) -> ReadTables:
    """All tables of a sample's file.

    Args:
        path: The file.
        layer: The layer that people label.
        columns: Columns of ``design`` beside ``unit``.

    Raises:
        ConfigError: It is no sample.
    """
    facts = read_facts(path)
    try:
        source = open_vector(path)
        with closing(connect_read_only(path)) as connection:
            # Names of our own.
            rows = connection.execute(f"SELECT unit, {', '.join(columns)} FROM design ORDER BY unit").fetchall()  # noqa: S608
            # The layer says how many features it has, which need not be so.
            ((count,),) = connection.execute("SELECT count(*) FROM sample")
        meta, geometry, values = source.table(layer)
        # Without rows there is not even the column of units.
        unit, *others = (np.array(column) for column in zip(*rows, strict=True))
    except (sqlite3.DatabaseError, ValueError, OSError, RuntimeError) as error:
        raise _no_sample(path, error) from error
    named = dict(zip((str(name) for name in meta["fields"]), values, strict=True))
    return ReadTables(facts, (unit, *others), named, geometry, count)


def _no_sample(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"{path}: says nothing of how its units were drawn, so that nothing follows from them for the map: {error}; "
        "use a file of geoseg sample, whose tables design and design_facts go with its layer"
    )
