"""Commands of the documents: every one is parsed as it stands, and those of the how-to pages are run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from support import LIMIT_S, ROOT

from geoseg.procedural import Frontier
from pipeline.cli import COMMANDS, group
from pipeline.cli.options import config_from

PAGES = sorted((ROOT / "docs").rglob("*.md"))
TUTORIALS = [path for path in sorted((ROOT / "docs" / "tutorials").glob("*.md")) if path.stem != "index"]
HOW_TO = [path for path in sorted((ROOT / "docs" / "how-to").glob("*.md")) if path.stem != "index"]
BLOCK = re.compile(r"^```(sh|text|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(path: Path) -> Iterator[list[str]]:
    """Words behind `geoseg` of each command in the blocks of a page; those with something left out (…) aside."""
    for language, code in BLOCK.findall(path.read_text(encoding="utf-8")):
        if language not in ("sh", "text"):
            continue
        for line in code.replace("\\\n", " ").split("\n"):
            if line.startswith("geoseg ") and "…" not in line:
                yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_taken_by_the_command_line(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # --init writes a file, and ends.
    monkeypatch.chdir(tmp_path)
    for words in commands(path):
        command = group.get_command(None, words[0])
        assert command is not None, words
        if "--help" in words:
            continue
        try:
            given = command.make_context(words[0], words[1:], parent=click.Context(group))
        except click.exceptions.Exit as ended:
            if "--init" in words and not ended.exit_code:
                continue
            raise
        if any("__" in name for name in given.params):
            config_from(given.params)


def test_every_command_has_an_example() -> None:
    shown = {words[0] for path in [ROOT / "README.md", *PAGES] for words in commands(path)}
    assert set(COMMANDS) - shown <= {"demo"}


def test_pages_are_two_clicks_from_the_readme() -> None:
    index = (ROOT / "docs" / "how-to" / "index.md").read_text(encoding="utf-8")
    assert "(docs/how-to/index.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    for path in HOW_TO:
        assert f"]({path.name})" in index, path.name
        assert path.read_text(encoding="utf-8").startswith("# "), path.name


def _image(path: Path, bands: np.ndarray, transform: rasterio.Affine, crs: str, **facts: object) -> None:
    count, height, width = bands.shape
    shape = {"height": height, "width": width, "count": count, "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **shape, **facts) as file:
        file.write(bands)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: scenes, dates, areas, clouds, a drone's image with a roof."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "scenes").mkdir()
    Frontier(300, 360, acquired="2023-07-14").write(folder / "scenes" / "frontier.tif")
    Frontier(300, 360, acquired="2014-07-14").write(folder / "before.tif")
    Frontier(300, 360, years=9, acquired="2023-07-14").write(folder / "after.tif")
    with rasterio.open(folder / "scenes" / "frontier.tif") as file:
        rgb, transform, crs, bounds = file.read(), file.transform, str(file.crs), file.bounds
    _image(folder / "stack.tif", np.concatenate([rgb[::-1], rgb[:1]]), transform, crs)
    _image(folder / "stack16.tif", np.concatenate([rgb[::-1], rgb[:1]]).astype(np.uint16) * 12, transform, crs)
    collar = rgb.copy()
    collar[:, :40] = 0
    _image(folder / "collar.tif", collar, transform, crs, photometric="RGB")
    middle = shapely.box(*bounds).centroid
    park = geopandas.GeoDataFrame({"name": ["Jamari"]}, geometry=[middle.buffer(900)], crs=crs)
    park.to_crs(4326).to_file(folder / "park.gpkg")
    geopandas.GeoDataFrame(geometry=[middle.buffer(300)], crs=crs).to_file(folder / "clouds.gpkg")
    # A bright roof, and its outline.
    drone = np.full((3, 260, 260), 90, np.uint8)
    drone[:, 100:150, 80:160] = 220
    _image(folder / "drone.tif", drone, from_origin(453_000, 35_000, 0.3, 0.3), "EPSG:32636", photometric="RGB")
    roof = geopandas.GeoSeries([shapely.box(453_024, 34_955, 453_048, 34_970)], crs="EPSG:32636")
    roof.to_crs(4326).to_file(folder / "buildings.geojson")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", HOW_TO, ids=lambda path: path.stem)
def test_how_to_pages_run(path: Path, inputs: Path, tmp_path: Path) -> None:
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    run_blocks(path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_run_from_nothing(path: Path, tmp_path: Path) -> None:
    run_blocks(path, tmp_path)


def run_blocks(path: Path, folder: Path) -> None:
    """Do what a page says, block by block; a recipe is written to the file that its first line names."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for language, code in BLOCK.findall(path.read_text(encoding="utf-8")):
        if language == "toml":
            (folder / code.split("\n")[0].removeprefix("# ")).write_text(code, encoding="utf-8")
        if language in ("sh", "python"):
            command = [sys.executable, "-c", code] if language == "python" else ["sh", "-ec", code]
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
            assert done.returncode == 0, code + done.stdout + done.stderr
