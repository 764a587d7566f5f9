"""Results in a PostGIS server of their own: the rows are those of the files, a run replaces itself alone, all or nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyogrio.raw
import pytest
import rasterio
import shapely
from services import postgis
from support import LIMIT_S, ROOT, call_cli, damage_by_red, patchy

import geoseg
from geoseg.errors import ConfigError, OutputError
from geoseg.models.model_folder import Model
from pipeline.changes.run import pair_of
from pipeline.config.sections import Config
from pipeline.damage.run import map_damage
from pipeline.load.run import load

psycopg = pytest.importorskip("psycopg")

ZONES = {"a": "EPSG:32720", "b": "EPSG:32721"}
LOST = "+proj=laea +lat_0=-9.5 +lon_0=-63 +datum=WGS84 +units=m"
"""A CRS of no code."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server whose database is the service ``maps``."""
    with postgis(tmp_path_factory.mktemp("service")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def ask(server: None) -> Iterator[Any]:
    """Ask the database; its schema ``geoseg`` is gone before and after."""
    del server
    with psycopg.connect("service=maps", autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS geoseg CASCADE")
        yield lambda query, *values: connection.execute(query, values).fetchall()


@pytest.fixture(scope="module")
def out(identity_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes in two zones, mapped."""
    folder = tmp_path_factory.mktemp("load")
    (folder / "in").mkdir()
    for seed, (name, crs) in enumerate(ZONES.items()):
        scene(folder / "in" / f"{name}.tif", crs, seed)
    return mapped(folder / "in", identity_model, folder / "out")


def scene(path: Path, crs: str, seed: int = 0) -> Path:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": 300, "width": 400, "crs": crs}
    transform = rasterio.Affine(10, 0, 430_000, 0, -10, 8_930_000)
    with rasterio.open(path, "w", **profile, transform=transform) as dataset:
        dataset.write(patchy(300, 400, 5, seed, 6.0), 1)
    return path


def mapped(images: Path, model: Model, out: Path, *options: str) -> Path:
    done = call_cli(["segment", images, "-m", model.path, "-o", out, *(options or ("--min-area", "4px"))])
    assert done.returncode == 0, done.stderr
    return out


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    """Id, class, area and shape of the features of a file."""
    frame = geopandas.read_file(path, layer="polygons")
    return sorted(zip(frame["id"], frame["class"], frame["area_m2"], map(shapely.to_wkb, frame.geometry), strict=True))


def stored(ask: Any, table: str) -> list[tuple[Any, ...]]:
    rows = ask(f"SELECT id, class, area_m2, ST_AsBinary(ST_GeometryN(geom, 1)) FROM {table}")
    return sorted((*row[:3], bytes(row[3])) for row in rows)


def test_rows_are_those_of_the_files(out, ask):
    done = call_cli(["load", out, "maps"])
    assert done.returncode == 0, done.stderr
    for name, crs in ZONES.items():
        table = f"geoseg.polygons_{crs.removeprefix('EPSG:')}"
        wanted = rows_of(out / name / "polygons.gpkg")
        assert stored(ask, table) == wanted == stored(ask, table.replace(".", ".latest_"))
        assert f"{len(wanted):,} rows in {table}" in done.stdout
        assert ask(f"SELECT DISTINCT ST_SRID(geom), ST_GeometryType(geom), ST_IsValid(geom), scene FROM {table}") == [
            (int(crs.removeprefix("EPSG:")), "ST_MultiPolygon", True, name)
        ]
        (plan,) = ask(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'geoseg' AND indexdef LIKE %s", f"% {table} USING gist %"
        )
        assert "(geom)" in plan[0]
        styles = ask("SELECT styleqml FROM layer_styles WHERE f_table_name LIKE %s AND useasdefault", f"%{table.split('.')[1]}")
        qml = ET.fromstring((out / name / "polygons.qml").read_text().partition(">")[2])
        assert [ET.tostring(ET.fromstring(text)) for (text,) in styles] == [ET.tostring(qml)] * 2
    runs = ask("SELECT scene, kind, status, features FROM geoseg.latest_runs ORDER BY 1")
    assert runs == [(name, "polygons", "done", len(rows_of(out / name / "polygons.gpkg"))) for name in ZONES]


def test_a_run_replaces_itself_and_no_other(out, identity_model, tmp_path, ask):
    """What refers to a row that stays is kept; a row that the run has no more goes; other runs keep theirs."""
    (loaded,) = geoseg.load(out / "a", "maps")
    assert (loaded.scene, loaded.table) == ("a", "geoseg.polygons_32720")
    other = mapped(out.parent / "in" / "a.tif", identity_model, tmp_path / "other", "--min-area", "600px")
    load(other, "maps")
    first, second = rows_of(out / "a" / "polygons.gpkg"), rows_of(other / "a" / "polygons.gpkg")
    assert len(second) < len(first)
    assert stored(ask, "geoseg.latest_polygons_32720") == second
    assert sorted(stored(ask, "geoseg.polygons_32720")) == sorted(first + second)
    (run,) = ask("SELECT run FROM geoseg.latest_runs")
    again = tmp_path / "again"
    shutil.copytree(other / "a", again / "a")
    frame = geopandas.read_file(again / "a" / "polygons.gpkg", layer="polygons")
    kept, gone = frame.iloc[0]["id"], frame.iloc[-1]["id"]
    (again / "a" / "polygons.gpkg").unlink()
    frame.iloc[:-1].assign(confidence=12.5).to_file(again / "a" / "polygons.gpkg", layer="polygons")
    with psycopg.connect("service=maps", autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE geoseg.remarks (run text, id bigint, part int, said text, "
            "FOREIGN KEY (run, id, part) REFERENCES geoseg.polygons_32720)"
        )
        connection.execute("INSERT INTO geoseg.remarks VALUES (%s, %s, 0, 'seen')", [run[0], int(kept)])
    load(again, "maps")
    assert [row[0] for row in stored(ask, "geoseg.latest_polygons_32720")] == [row[0] for row in second if row[0] != gone]
    assert ask("SELECT DISTINCT confidence FROM geoseg.latest_polygons_32720") == [(12.5,)]
    assert sorted(stored(ask, "geoseg.polygons_32720")) == sorted(first + [row for row in second if row[0] != gone])
    assert ask("SELECT features FROM geoseg.runs WHERE run = %s", run[0]) == [(len(second) - 1,)]


def test_all_or_nothing(out, tmp_path, ask):
    """Rows of one id twice, in the second of two results: nothing of the first is there either, nor a table."""
    broken = tmp_path / "broken"
    shutil.copytree(out, broken)
    frame = geopandas.read_file(broken / "b" / "polygons.gpkg", layer="polygons")
    (broken / "b" / "polygons.gpkg").unlink()
    frame.assign(id=7, part=0).to_file(broken / "b" / "polygons.gpkg", layer="polygons")
    with pytest.raises(OutputError, match=r"duplicate key.*nothing was loaded"):
        load(broken, "maps")
    assert ask("SELECT 1 FROM pg_namespace WHERE nspname = 'geoseg'") == []


@pytest.mark.parametrize("kind", ["fgb", "parquet", "geojson"])
def test_formats_agree(kind, out, identity_model, tmp_path, ask):
    """The same ids, classes and areas, whatever format a result has."""
    images, there = out.parent / "in" / "a.tif", tmp_path / "out"
    mapped(images, identity_model, there, "--min-area", "4px", "--formats", kind)
    load(there, "maps", crs="EPSG:32720" if kind == "geojson" else None)
    wanted = rows_of(out / "a" / "polygons.gpkg")
    found = stored(ask, "geoseg.polygons_32720")
    assert [row[:3] for row in found] == [row[:3] for row in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        assert shapely.hausdorff_distance(shapely.from_wkb(mine[3]), shapely.from_wkb(theirs[3])) < (
            0.1 if kind == "geojson" else 1e-9
        )


def test_a_crs_without_a_code_is_told(identity_model, tmp_path, ask):
    there = mapped(scene(tmp_path / "far.tif", LOST), identity_model, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"has no EPSG code.*crs=EPSG:4326"):
        load(there, "maps")
    load(there, "maps", crs="EPSG:4326")
    ((found, stated),) = ask("SELECT sum(ST_Area(geom::geography)), sum(area_m2) FROM geoseg.polygons_4326")
    assert found == pytest.approx(stated, rel=1e-4)
    # A run lies in one table alone.
    load(there, "maps", crs="EPSG:3857")
    assert ask("SELECT count(*) FROM geoseg.polygons_4326") == [(0,)]
    assert ask("SELECT table_name FROM geoseg.runs") == [("polygons_3857",)]


def test_projects_keep_scenes_of_one_name_apart(out, ask):
    for project in ("north", "south"):
        load(out / "a", "maps", project=project)
    count = len(rows_of(out / "a" / "polygons.gpkg"))
    assert ask("SELECT project, features FROM geoseg.latest_runs ORDER BY 1") == [("north", count), ("south", count)]
    assert ask("SELECT count(*) FROM geoseg.latest_polygons_32720") == [(2 * count,)]


def test_buildings(tmp_path, ask):
    pytest.importorskip("torch")
    model, place = damage_by_red(tmp_path / "model"), rasterio.Affine(0.5, 0, 430_000, 0, -0.5, 8_930_000)
    for name, red in (("pre", 5), ("post", 200)):
        with rasterio.open(
            tmp_path / f"{name}.tif",
            "w",
            driver="GTiff",
            count=3,
            dtype="uint8",
            height=200,
            width=200,
            crs="EPSG:32720",
            transform=place,
        ) as target:
            target.write(np.stack([np.full((200, 200), value, np.uint8) for value in (red, 5, 5)]))
            target.update_tags(ACQUISITION_DATE="2020-01-01" if name == "pre" else "2021-01-01")
    shapes = [shapely.box(430_010 + 20 * i, 8_929_950, 430_020 + 20 * i, 8_929_960) for i in range(3)]
    geopandas.GeoDataFrame({"name": ["a", None, 'b "1"\n'], "geometry": shapes}, crs="EPSG:32720").to_file(tmp_path / "f.gpkg")
    config = Config.parse({"dates": {"coregister": "off"}})
    images = [str(tmp_path / f"{name}.tif") for name in ("pre", "post")]
    done = map_damage(pair_of(images), str(tmp_path / "f.gpkg"), model, config, tmp_path / "out")
    load(done.folder, "maps")
    frame = geopandas.read_file(done.folder / "buildings.gpkg", layer="buildings").sort_values("id")
    columns = ["id", "name", "code", "class", "p_destroyed"]
    rows = ask(f"SELECT {', '.join(columns)}, ST_AsBinary(ST_GeometryN(geom, 1)) FROM geoseg.latest_buildings_32720 ORDER BY id")
    wanted = frame[columns].astype(object).where(frame[columns].notna(), None).to_numpy()
    assert [row[:5] for row in rows] == [tuple(row) for row in wanted]
    assert [shapely.from_wkb(bytes(row[5])).equals(shape) for row, shape in zip(rows, frame.geometry, strict=True)] == [True] * 3


def test_what_is_refused(out, tmp_path, monkeypatch, ask):
    """Each in one sentence, without the password, and with nothing made."""
    for address in (
        "postgresql://u:geheimnis@127.0.0.1/maps",
        "host=127.0.0.1 password=geheimnis",
        "postgresql://u:geheimnis@[bad",
    ):
        done = call_cli(["load", out, address])
        assert done.returncode != 0
        assert "geheimnis" not in done.stderr + done.stdout
        assert done.stderr.count("\n") == 1
    with pytest.raises(OutputError, match=r"service.*not found"):
        load(out, "nowhere")
    with psycopg.connect("service=maps", autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS plain")
        connection.execute("CREATE DATABASE plain")
    monkeypatch.setenv("PGSERVICE", "maps")
    with pytest.raises(ConfigError, match=r"has no PostGIS.*CREATE EXTENSION postgis"):
        load(out, "dbname=plain")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds neither polygons nor buildings"):
        load(tmp_path / "empty")
    load(out / "a")  # by the environment
    with psycopg.connect("service=maps", autocommit=True) as connection:
        connection.execute("DROP VIEW geoseg.latest_polygons_32720")
        connection.execute("ALTER TABLE geoseg.polygons_32720 ALTER COLUMN class TYPE integer USING 0")
    with pytest.raises(OutputError, match="its column class is integer, and that of this result text"):
        load(out / "a")


@pytest.mark.parametrize(
    ("crs", "words"), [("EPSG:99999", "is not a CRS that PROJ knows"), ("somewhere", "is no coordinate reference")]
)
def test_what_is_no_crs_is_told_before_a_server_is_asked(crs: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, "postgresql://127.0.0.1:1/x", crs=crs)


@pytest.mark.slow
def test_a_million_polygons_pass_in_bounded_memory(out, tmp_path, ask):
    count, folder = 1_000_000, tmp_path / "big"
    folder.mkdir()
    number = np.arange(count)
    x, y = 430_000 + number % 1000 * 40.0, 8_900_000 + number // 1000 * 40.0
    columns = {
        "id": pa.array(number),
        "part": pa.array(np.zeros(count, np.int32)),
        "class": pa.array(np.array(["forest", 'a "b"\n, c', ""])[number % 3]),
        "area_m2": pa.array(number / 7),
        "geometry": pa.array(shapely.to_wkb(shapely.box(x, y, x + 30, y + 30)), pa.binary()),
    }
    fields = [pa.field(name, array.type) for name, array in columns.items()]
    fields[-1] = fields[-1].with_metadata({"ARROW:extension:name": "geoarrow.wkb"})
    pyogrio.raw.write_arrow(
        pa.table(list(columns.values()), pa.schema(fields)),
        folder / "polygons.gpkg",
        layer="polygons",
        driver="GPKG",
        geometry_name="geometry",
        geometry_type="Polygon",
        crs="EPSG:32720",
    )
    shutil.copy(out / "a" / "run.json", folder)
    # The peak that a parent reads of its child is at least its own.
    code = (
        "import sys; from pipeline.cli import run; code = run(['load', sys.argv[1], 'maps'])\n"
        "print(code, [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    status, peak = done.stdout.splitlines()[-1].split()
    assert (status, int(peak) < 500_000) == ("0", True), peak
    assert ask(
        "SELECT count(*), sum(area_m2), sum(ST_Area(geom)), count(*) FILTER (WHERE class = %s) FROM geoseg.polygons_32720",
        'a "b"\n, c',
    ) == [(count, pytest.approx(float(number.sum()) / 7), 900.0 * count, len(number[1::3]))]
