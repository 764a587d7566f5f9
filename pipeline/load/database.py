"""Tables, views and styles of a database that holds results.

::

    SCHEMA.runs                        a row a run: project, scene, kind, model, dates, status, warnings
    SCHEMA.polygons_32720              features of one kind and one CRS, by run, id and part; also changes_…, buildings_…
    SCHEMA.latest_runs                 of each project, scene, kind and model, the run that was finished last
    SCHEMA.latest_polygons_32720       its features
    public.layer_styles                QGIS styles of tables and views
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from geoseg.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

    from pipeline.load.connection import Rows

__all__ = ["KEYS", "Place", "prepare", "write_style"]

KEYS = ("run", "id", "part")
GEOMETRY = "geom"
STYLE = "geoseg"

RUNS = """
CREATE TABLE IF NOT EXISTS {schema}.runs (
    run text PRIMARY KEY, project text NOT NULL, scene text NOT NULL, kind text NOT NULL, model text NOT NULL,
    status text NOT NULL, acquired text, finished timestamptz, loaded timestamptz NOT NULL DEFAULT now(),
    table_name text NOT NULL, features bigint NOT NULL, warnings jsonb NOT NULL)
"""
LATEST = """
CREATE OR REPLACE VIEW {schema}.latest_runs AS SELECT DISTINCT ON (project, scene, kind, split_part(model, ' ', 1)) *
FROM {schema}.runs
ORDER BY project, scene, kind, split_part(model, ' ', 1), finished DESC NULLS LAST, loaded DESC
"""
STYLES = """
CREATE TABLE IF NOT EXISTS public.layer_styles (
    id serial PRIMARY KEY, f_table_catalog varchar, f_table_schema varchar, f_table_name varchar, f_geometry_column varchar,
    stylename text, styleqml xml, stylesld xml, useasdefault boolean, description text, owner varchar(63) DEFAULT CURRENT_USER,
    ui xml, update_time timestamp DEFAULT CURRENT_TIMESTAMP, type varchar)
"""


class Place:
    """A schema of a database with PostGIS in it."""

    def __init__(self, connection: Connection[Rows], schema: str) -> None:
        """Look where PostGIS is, and make what all results share.

        Loads into one schema wait for each other until the end of their transactions.

        Raises:
            ConfigError: The database has no PostGIS.
        """
        from psycopg.sql import SQL, Identifier

        row = connection.execute(
            "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'postgis'"
        ).fetchone()
        if row is None:
            raise ConfigError(
                f"database {connection.info.dbname}: has no PostGIS; one who may do so makes it by: CREATE EXTENSION postgis"
            )
        self.connection, self.schema = connection, schema
        self._postgis = Identifier(str(row[0]))
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"geoseg {schema}"])
        # An existing schema may be one that this user can fill and can't make.
        if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]).fetchone() is None:
            connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
        for text in (RUNS, LATEST):
            connection.execute(SQL(text).format(schema=Identifier(schema)))

    def named(self, template: str, table: str) -> Composed:
        """A statement for a table of the schema, ``{table}``, its view, ``{view}``, and PostGIS, ``{postgis}``."""
        from psycopg.sql import SQL, Identifier

        return SQL(template).format(
            schema=Identifier(self.schema),
            table=Identifier(self.schema, table),
            view=Identifier(self.schema, f"latest_{table}"),
            index=Identifier(f"{table}_{GEOMETRY}"),
            postgis=self._postgis,
        )

    def check_srid(self, srid: int) -> None:
        """Refuse a code that PostGIS does not know.

        Raises:
            ConfigError: It does not.
        """
        known = self.connection.execute(self.named("SELECT 1 FROM {postgis}.spatial_ref_sys WHERE srid = %s", ""), [srid])
        if known.fetchone() is None:
            raise ConfigError(
                f"EPSG:{srid}: this PostGIS does not know the code (table spatial_ref_sys); load with another --crs, such as "
                "EPSG:4326"
            )

    def columns(self, table: str) -> dict[str, str]:
        """Types of a table's columns by name; empty where there is no such table."""
        rows = self.connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
            "ORDER BY ordinal_position",
            [self.schema, table],
        )
        return {str(name): str(kind) for name, kind in rows}


def prepare(place: Place, table: str, srid: int, columns: Mapping[str, str]) -> None:
    """Make a table of features, or add the columns that it lacks, and its view of the latest runs.

    Args:
        place: The schema.
        table: Name of the table.
        srid: Of its geometries.
        columns: SQL types by name, in order; ``id`` among them.

    Raises:
        OutputError: A column is there with another type.
    """
    from psycopg.sql import SQL, Identifier

    there = place.columns(table)
    if not there:
        place.connection.execute(
            place.named(
                f"CREATE TABLE {{table}} (run text NOT NULL REFERENCES {{schema}}.runs ON DELETE CASCADE, id bigint NOT NULL, "
                f"part integer NOT NULL DEFAULT 0, geom {{postgis}}.geometry(MultiPolygon, {int(srid)}) NOT NULL, "
                f"PRIMARY KEY ({', '.join(KEYS)}))",
                table,
            )
        )
        there = place.columns(table)
    for name, kind in columns.items():
        if name in KEYS:
            continue
        if name not in there:
            add = SQL("ALTER TABLE {} ADD COLUMN {} {}").format(Identifier(place.schema, table), Identifier(name), SQL(kind))
            place.connection.execute(add)
        elif there[name] != kind:
            raise OutputError(
                f"table {place.schema}.{table}: its column {name} is {there[name]}, and that of this result {kind}; load into "
                "another --schema"
            )
    view = "CREATE OR REPLACE VIEW {view} AS SELECT f.* FROM {table} f JOIN {schema}.latest_runs USING (run)"
    place.connection.execute(place.named(view, table))


def write_style(place: Place, table: str, qml: str) -> str | None:
    """Give a table and its view a default style in QGIS; a sentence where that is not allowed."""
    import psycopg

    connection = place.connection
    try:
        with connection.transaction():
            if connection.execute("SELECT to_regclass('public.layer_styles')").fetchone() == (None,):
                connection.execute(STYLES)
            for name in (table, f"latest_{table}"):
                where = [connection.info.dbname, place.schema, name, GEOMETRY]
                connection.execute(
                    "DELETE FROM public.layer_styles WHERE (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
                    "stylename) = (%s, %s, %s, %s, %s)",
                    [*where, STYLE],
                )
                connection.execute(
                    "INSERT INTO public.layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
                    "stylename, styleqml, useasdefault, description) VALUES (%s, %s, %s, %s, %s, %s::xml, true, %s)",
                    [*where, STYLE, _without_doctype(qml), "Classes of the model"],
                )
    except psycopg.errors.InsufficientPrivilege:
        return f"{place.schema}.{table} has no style in QGIS: this user may not write the table public.layer_styles"
    return None


def _without_doctype(qml: str) -> str:
    """A QGIS style without its document type, which the type ``xml`` of a part of a document has no place for."""
    head, _, rest = qml.partition("<qgis")
    return f"<qgis{rest}" if "<!DOCTYPE" in head else qml
