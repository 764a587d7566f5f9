"""Independent programs open what is written: QGIS, PostGIS, a browser's map, and the validators of each format."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import run_cli

from geoseg.procedural import Frontier

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


def run(command: list[str | Path], **env: str) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ | env, timeout=300, check=False)
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
