"""Independent programs open what is written: QGIS, PostGIS, a browser's map, and the validators of each format."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from support import LIMIT_S, UTM, damage_by_red, run_cli

from geoseg.codes import NOT_ANALYSED
from geoseg.damage.scale import CLASSES
from geoseg.procedural import Frontier
from pipeline.sample.file import UNSURE

pytestmark = pytest.mark.checkers
HOME = Path(os.environ.get("CHECKERS_HOME", Path.home() / ".cache" / "geoseg-checkers"))


@pytest.fixture(scope="module")
def checkers(shared: Path) -> Path:
    if not (HOME / ".venv").is_dir():
        pytest.skip(f"the checkers are not installed in {HOME}; their install.sh does it")
    return shared / "checkers"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    out.chmod(0o755)
    Frontier(2048, 2048).write(out / "frontier.tif")
    options = ["--formats", "geojson,gpkg,fgb,parquet", "--min-area", "0.5ha"]
    done = run_cli(["segment", out / "frontier.tif", "-m", "amazon-forest", "-o", out / "maps", *options])
    assert done.returncode == 0, done.stderr
    return out / "maps" / "frontier"


def done(*args: str | Path) -> None:
    """Run geoseg."""
    found = run_cli(list(args))
    assert found.returncode == 0, found.stderr


@pytest.fixture(scope="module")
def loss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Changes between two dates with clouds, with zones."""
    out = tmp_path_factory.mktemp("loss")
    out.chmod(0o755)
    for name, years, date in (("before", 0.0, "2014-07-14"), ("after", 9.0, "2023-07-14")):
        Frontier(1024, 1024, years=years, acquired=date).write(out / f"{name}.tif", out / f"{name}_truth.tif")
    with rasterio.open(out / "before.tif") as scene:
        left, bottom, right, top = scene.bounds
        crs = scene.crs
    middle = (left + right) / 2
    halves = [shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top)]
    geopandas.GeoDataFrame({"name": ["west 'a'", 'east "é"']}, geometry=halves, crs=crs).to_file(out / "zones.gpkg", layer="z")
    done(
        "deforestation",
        out / "before.tif",
        out / "after.tif",
        "--model",
        "amazon-forest",
        "--out",
        out / "maps",
        "--min-area",
        "0.5ha",
        "--masks",
        f"{out / 'before_truth.tif'},{out / 'after_truth.tif'}",
        "--mask-values",
        str(NOT_ANALYSED),
        "--zones",
        out / "zones.gpkg",
    )
    return out / "maps" / "before_to_after"


@pytest.fixture(scope="module")
def damage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Buildings in four grades, with broken footprints and some that nothing is known of."""
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("damage")
    out.chmod(0o755)
    model = damage_by_red(out / "model")
    place = rasterio.Affine(0.5, 0.0, 430_000.0, 0.0, -0.5, 8_930_000.0)
    before = np.full((3, 400, 400), 5, np.uint8)
    after = before.copy()
    after[0] = 50 * (1 + np.arange(400) * 4 // 400)
    after[:, 340:] = 0
    for name, image in (("pre", before), ("post", after)):
        with rasterio.open(
            out / f"{name}.tif",
            "w",
            driver="GTiff",
            height=400,
            width=400,
            count=3,
            dtype="uint8",
            photometric="rgb",
            nodata=0,
            tiled=True,
            blockxsize=256,
            blockysize=256,
            crs=UTM,
            transform=place,
        ) as target:
            target.write(image)
    corners = [place @ (20 + 38 * col, 20 + 38 * row) for row in range(10) for col in range(10)]
    shapes = [shapely.box(x, y - 8, x + 10, y) for x, y in corners]
    shapes[7] = shapely.Polygon([shapes[7].exterior.coords[i] for i in (0, 2, 1, 3)])
    shapes[8] = shapely.MultiPolygon([shapes[8], shapely.transform(shapes[8], lambda xy: np.add(xy, (0, 9)))])
    geopandas.GeoDataFrame({"uid": [f"b <{k}> 'é'" for k in range(100)]}, geometry=shapes, crs=UTM).to_crs(4326).to_file(
        out / "f.gpkg"
    )
    blocks = [shapely.box(430_000, 8_929_800, 430_100, 8_930_000), shapely.box(430_100, 8_929_800, 430_200, 8_930_000)]
    geopandas.GeoDataFrame({"block": ["A & B", "C"]}, geometry=blocks, crs=UTM).to_file(out / "blocks.gpkg", layer="z")
    done(
        "damage",
        out / "pre.tif",
        out / "post.tif",
        "--footprints",
        out / "f.gpkg",
        "--model",
        model.path,
        "--out",
        out / "maps",
        "--zones",
        out / "blocks.gpkg",
        "--cell",
        "50",
        "--acquired",
        "2020-01-01,2021-01-01",
        "--coregister",
        "off",
    )
    return out / "maps" / "pre_to_post"


def delivered(folder: Path, *more: str) -> Path:
    """A delivery in all formats."""
    out = folder.parent / "delivery"
    if not out.exists():
        done(
            "deliver",
            folder,
            "--out",
            out,
            "--event",
            "Event <b>'é'</b> & more",
            "--code",
            "EMSR999",
            "--also",
            "fgb",
            "--also",
            "shp",
            *more,
        )
        out.chmod(0o755)
    return out


@pytest.fixture(scope="module")
def loss_delivery(loss: Path) -> Path:
    return delivered(loss)


@pytest.fixture(scope="module")
def damage_delivery(damage: Path) -> Path:
    return delivered(damage, "--cell", "50m", "--radius", "50m", "--aoi", str(damage.parent.parent / "blocks.gpkg"))


def qgis(checkers: Path, picture: Path, *layers: str | Path) -> list[dict[str, Any]]:
    """What QGIS says of layers; it fails on invalid ones and on blank pictures."""
    said = run(["/usr/bin/python3", checkers / "render_qgis.py", picture, *layers], QT_QPA_PLATFORM="offscreen")
    facts: list[dict[str, Any]] = json.loads(said[said.index("{") :])["layers"]
    assert all(fact["valid"] for fact in facts)
    return facts


def postgis(checkers: Path, *files: Path) -> list[list[str]]:
    """Rows, invalid, empty or null, least and largest SRID, area and types of files in PostGIS."""
    if shutil.which("psql") is None:
        pytest.skip("PostgreSQL is not installed")
    said = run(["bash", checkers / "postgis_roundtrip.sh", *files])
    return [line.split("= ")[1].split("|") for line in said.splitlines() if "rows|" in line]


def alone(path: Path, layer: str, folder: Path, *more: str) -> Path:
    """A layer by itself: the style is a table of the GeoPackage, too."""
    out = folder / f"{path.stem}_{layer}.gpkg"
    run(["ogr2ogr", out, path, layer, *more])
    folder.chmod(0o755)
    return out


def run(command: list[str | Path], **env: str) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=os.environ | env, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rasters(checkers: Path, folder: Path) -> None:
    run(["bash", checkers / "check_cog.sh", folder / "classes.tif", folder / "confidence.tif"])


@pytest.mark.parametrize("name", ["polygons.geojson", "coverage.geojson", "polygons.gpkg", "polygons.fgb"])
def test_vectors(checkers: Path, folder: Path, name: str) -> None:
    run(["bash", checkers / "check_vector.sh", folder / name])


def test_geoparquet(folder: Path, checkers: Path) -> None:
    del checkers
    run([HOME / ".venv" / "bin" / "geoparquet-validator", "check", folder / "polygons.parquet"])


def test_stac(checkers: Path, folder: Path) -> None:
    run([HOME / ".venv" / "bin" / "python", checkers / "check_stac.py", folder / "item.json"])


def test_qgis(checkers: Path, folder: Path, tmp_path: Path) -> None:
    layers = [f"{folder / 'polygons.gpkg'}|layername=polygons", folder / "classes.tif"]
    said = run(["/usr/bin/python3", checkers / "render_qgis.py", tmp_path / "map.png", *layers], QT_QPA_PLATFORM="offscreen")
    facts = json.loads(said[said.index("{") :])
    vector, raster = facts["layers"]
    assert vector["valid"]
    assert raster["valid"]
    # Both bring their style along.
    assert vector["renderer"] == "categorizedSymbol"
    assert vector["legend"][:2] == ["non-forest", "forest"]
    assert raster["renderer"] == "paletted"


def test_postgis(checkers: Path, folder: Path) -> None:
    if shutil.which("psql") is None:
        pytest.skip("PostgreSQL is not installed")
    # The style is a second table of the GeoPackage; one names the layer to import it alone.
    alone = folder.parent / "layer.gpkg"
    run(["ogr2ogr", alone, folder / "polygons.gpkg", "polygons"])
    said = run(["bash", checkers / "postgis_roundtrip.sh", alone, folder / "polygons.fgb", folder / "polygons.geojson"])
    facts = [line.split("= ")[1].split("|") for line in said.splitlines() if "rows|" in line]
    assert len({rows for rows, *_ in facts}) == 1
    assert [(invalid, empty, srid) for _, invalid, empty, srid, *_ in facts] == [("0", "0", "32720")] * 2 + [("0", "0", "4326")]
    assert said.count("overlapping pairs: 0") == 3


def test_browser(checkers: Path, folder: Path, tmp_path: Path) -> None:
    west, south, east, north = json.loads((folder / "item.json").read_text())["bbox"]
    command = [
        "node",
        checkers / "render_map.mjs",
        folder / "polygons.geojson",
        folder / "preview.png",
        f"{west},{south},{east},{north}",
        tmp_path / "map.png",
    ]
    said = run(command)
    assert '"err":[]' in said.replace(" ", "")


def test_changes(checkers: Path, loss: Path, tmp_path: Path) -> None:
    run(["bash", checkers / "check_cog.sh", loss / "classes.tif", loss / "confidence.tif"])
    run(
        [
            "bash",
            checkers / "check_vector.sh",
            *(loss / f"{n}" for n in ("polygons.gpkg", "polygons.geojson", "coverage.geojson", "zones.gpkg")),
        ]
    )
    polygons, zones, raster = qgis(
        checkers,
        tmp_path / "map.png",
        f"{loss / 'polygons.gpkg'}|layername=polygons",
        f"{loss / 'zones.gpkg'}|layername=zones",
        loss / "classes.tif",
    )
    assert polygons["renderer"] == "categorizedSymbol"
    assert {"forest loss", "forest gain"} <= set(polygons["legend"])
    assert polygons["features"] == polygons["declared"] > 0
    assert {"since", "until", "before", "after", "area_ha"} <= {name.split(":")[0] for name in polygons["fields"]}
    assert (zones["features"], zones["crs"]) == (2, "EPSG:32720")
    assert raster["renderer"] == "paletted"
    layers = [
        alone(loss / "polygons.gpkg", "polygons", tmp_path),
        alone(loss / "zones.gpkg", "zones", tmp_path),
        loss / "polygons.geojson",
    ]
    table, by_zone, degrees = postgis(checkers, *layers)
    assert table[0] == degrees[0]
    assert [found[1:5] for found in (table, by_zone, degrees)] == [["0", "0", "32720", "32720"]] * 2 + [
        ["0", "0", "4326", "4326"]
    ]


def test_graded_buildings(checkers: Path, damage: Path, tmp_path: Path) -> None:
    run(["bash", checkers / "check_cog.sh", damage / "density.tif"])
    run(
        [
            "bash",
            checkers / "check_vector.sh",
            *(damage / n for n in ("buildings.gpkg", "buildings.geojson", "grid.gpkg", "zones.gpkg")),
        ]
    )
    layers = [f"{damage / f'{name}.gpkg'}|layername={name}" for name in ("buildings", "grid", "zones")]
    buildings, grid, zones, density = qgis(checkers, tmp_path / "map.png", *layers, damage / "density.tif")
    assert buildings["features"] == 100
    assert buildings["legend"] == [*CLASSES, "not analysed"]
    for shaded in (grid, zones):
        assert shaded["renderer"] == "RuleRenderer"
        assert shaded["legend"] == [
            "none destroyed",
            "up to 10 % destroyed",
            "10 % to 25 %",
            "25 % to 50 %",
            "50 % to 100 %",
            "nothing analysed",
        ]
    assert density["renderer"] == "singlebandpseudocolor"
    table, cells, degrees = postgis(
        checkers,
        alone(damage / "buildings.gpkg", "buildings", tmp_path),
        alone(damage / "grid.gpkg", "grid", tmp_path),
        damage / "buildings.geojson",
    )
    assert [found[:3] for found in (table, degrees)] == [["100", "0", "0"]] * 2
    assert cells[1:5] == ["0", "0", "32720", "32720"]


LAYERS = ("areaOfInterest", "imageFootprint", "notAnalysed", "observedEvent")


@pytest.mark.parametrize("kind", ["loss", "damage"])
def test_a_delivery(checkers: Path, kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(f"{kind}_delivery")
    package = folder / "EMSR999_delivery.gpkg"
    vectors = [*folder.glob("*.gpkg"), *folder.glob("*.geojson")]
    run(["bash", checkers / "check_vector.sh", *vectors])
    found = qgis(checkers, tmp_path / "map.png", *(f"{package}|layername={layer}" for layer in LAYERS))
    beside = qgis(checkers, tmp_path / "beside.png", *(folder / f"EMSR999_{layer}.geojson" for layer in LAYERS))
    flat = qgis(checkers, tmp_path / "flat.png", *(folder / f"EMSR999_{layer}.shp" for layer in LAYERS))
    looks = {
        "areaOfInterest": "singleSymbol",
        "imageFootprint": "singleSymbol",
        "notAnalysed": "singleSymbol",
        "observedEvent": "categorizedSymbol",
    }
    events = [*CLASSES] if kind == "damage" else ["forest loss", "forest gain"]
    for layers in (found, beside, flat):
        assert [layer["renderer"] for layer in layers] == list(looks.values())
        assert [text for text in layers[-1]["legend"] if text] == events
        assert [layer["features"] for layer in layers] == [layer["features"] for layer in found]
    with closing(sqlite3.connect(package)) as connection:
        styled = connection.execute("SELECT f_table_name, useAsDefault FROM layer_styles ORDER BY f_table_name").fetchall()
    assert styled == [(layer, 1) for layer in sorted(LAYERS)]
    for layer in LAYERS:
        kept = alone(package, layer, tmp_path)
        srid = str(pyogrio.read_info(kept)["crs"]).rsplit(":", 1)[-1]
        back = alone(folder / f"EMSR999_{layer}.geojson", f"EMSR999_{layer}", tmp_path, "-t_srs", f"EPSG:{srid}")
        rows = postgis(checkers, kept, folder / f"EMSR999_{layer}.fgb", back)
        assert len({row[0] for row in rows}) == 1
        assert [row[1:5] for row in rows] == [["0", "0", srid, srid]] * 3, layer
        areas = np.array([float(row[5]) for row in rows])
        assert areas == pytest.approx(areas[0], rel=2e-3)
    if kind == "damage":
        run(["bash", checkers / "check_cog.sh", folder / "EMSR999_density.tif"])
        grid, density = qgis(
            checkers, tmp_path / "grid.png", f"{folder / 'EMSR999_grid.gpkg'}|layername=grid", folder / "EMSR999_density.tif"
        )
        assert (grid["renderer"], density["renderer"]) == ("RuleRenderer", "singlebandpseudocolor")


FORM = """
import json, os, sys
from qgis.core import QgsApplication, QgsVectorLayer
app = QgsApplication([], False)
QgsApplication.initQgis()
layer = QgsVectorLayer(sys.argv[1] + "|layername=sample", "sample", "ogr")
fields = {}
for i, field in enumerate(layer.fields()):
    setup = layer.editorWidgetSetup(i)
    fields[field.name()] = [setup.type(), setup.config(), layer.attributeAlias(i), layer.editFormConfig().readOnly(i)]
print("FORM" + json.dumps({"valid": layer.isValid(), "rows": layer.featureCount(), "crs": layer.crs().authid(), \
"fields": fields}))
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.parametrize("blocks", [1, 5])
def test_the_form_of_a_sample(checkers: Path, loss: Path, tmp_path: Path, blocks: int) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "sample.gpkg"
    images = ",".join(str(loss.parent.parent / f"{name}.tif") for name in ("before", "after"))
    done(
        "sample",
        loss / "classes.tif",
        "--out",
        path,
        "--size",
        "200",
        "--least",
        "20",
        "--images",
        images,
        "--blocks",
        str(blocks),
    )
    run(["bash", checkers / "check_vector.sh", path])
    said = run(["/usr/bin/python3", "-c", FORM, path], QT_QPA_PLATFORM="offscreen")
    facts = json.loads(next(line for line in said.splitlines() if line.startswith("FORM"))[4:])
    assert facts["valid"]
    assert facts["crs"] == "EPSG:32720"
    assert facts["rows"] == len(geopandas.read_file(path, layer="sample"))
    fields = facts["fields"]
    classes = ["stable non-forest", "stable forest", "forest loss", "forest gain"]

    def choices(name: str) -> list[str]:
        widget, config, _, _ = fields[name]
        assert widget == "ValueMap", name
        listed = config["map"] if isinstance(config["map"], list) else [config["map"]]
        return [text for entry in listed for text in entry.values()]

    if blocks == 1:
        assert choices("reference") == [*classes, UNSURE]
        assert set(choices("second")) >= set(classes)
        assert fields["reference"][2] == "What is there"
    else:
        assert all(fields[f"percent_{k}"][0] == "Range" for k in range(4))
        assert [classes[k] in fields[f"percent_{k}"][2] for k in range(4)] == [True] * 4
    assert choices("sure")[0] == "sure"
    # What the map says would lead those who label it.
    assert not {"stratum", "code", "class", "map"} & set(fields)
    assert [fields[f"image_{k}"][0] for k in (1, 2)] == ["ExternalResource"] * 2
    if blocks > 1:
        (units,) = postgis(checkers, alone(path, "sample", tmp_path))
        assert units[1:5] == ["0", "0", "32720", "32720"]
