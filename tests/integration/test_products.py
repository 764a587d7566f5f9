"""Products of archives in the commands: a SAFE is mapped as its true-colour image is, dates of any baseline compare, watch takes
a folder of products as so many scenes, and what their metadata tell reaches the results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from archive_products import write_safe, write_tiff
from numpy.typing import NDArray
from support import call_cli

SIDE = 240
COLORS = {"B04": 0, "B03": 1, "B02": 2}


@pytest.fixture(scope="module")
def colors(forest_data: Path) -> NDArray[np.uint8]:
    """Red, green and blue where forest and other land are most evenly mixed, as the model has learned from."""

    def mixed(path: Path) -> float:
        with rasterio.open(path.parent.parent / "masks" / path.name) as file:
            mask = file.read(1)[:SIDE, :SIDE]
        return abs(float((mask == 1).mean()) - 0.5)

    with rasterio.open(min((forest_data / "val" / "images").glob("*.tif"), key=mixed)) as file:
        found: NDArray[np.uint8] = file.read([1, 2, 3])[:, :SIDE, :SIDE]
    return np.maximum(found, 1)


def product_of(folder: Path, colors: NDArray[np.uint8], baseline: str, offset: int | None) -> Path:
    """An L2A product whose true-colour image is this."""
    reflectance = (colors.astype(float) - 1) / 254 * 0.2
    numbers = np.rint(reflectance * 10000 - (offset or 0)).astype(np.uint16)
    pixels = {band: np.maximum(numbers[i], 1) for band, i in COLORS.items()}
    scl = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
    return write_safe(folder, pixels, baseline=baseline, offset=offset, scl=scl, block=128)


def classes_of(folder: Path) -> NDArray[np.uint8]:
    (path,) = folder.rglob("classes.tif")
    with rasterio.open(path) as file:
        found: NDArray[np.uint8] = file.read(1)
    return found


def test_a_product_is_mapped_as_its_true_colour_image(colors: NDArray[np.uint8], tmp_path: Path) -> None:
    safe = product_of(tmp_path, colors, "05.09", -1000)
    write_tiff(tmp_path / "tci.tif", colors, 10)
    for name, source in (("safe", safe), ("tci", tmp_path / "tci.tif")):
        done = call_cli(["segment", source, "--model", "amazon-forest", "--out", tmp_path / name, "--quiet"])
        assert done.returncode == 0, done.stderr
    same = (classes_of(tmp_path / "safe") == classes_of(tmp_path / "tci")).mean()
    assert 0.2 < (classes_of(tmp_path / "tci") == 1).mean() < 0.8
    # Values of the product are whole numbers, which are not exactly those of the image.
    assert same > 0.998
    (folder,) = (path for path in (tmp_path / "safe").iterdir() if path.is_dir())
    assert folder.name == safe.stem
    record, item = (json.loads((folder / name).read_text()) for name in ("run.json", "item.json"))
    assert record["product"]["baseline"] == "05.09"
    assert record["product"]["platform"] == "Sentinel-2B"
    assert record["source"] == [str(safe)]
    assert any("true colour as of the product's TCI, reflectances 0..0.2" in note for note in record["warnings"])
    facts = item["properties"]
    assert (facts["eo:cloud_cover"], facts["view:sun_elevation"]) == (12.345678, 48.75)
    assert (facts["view:sun_azimuth"], facts["view:off_nadir"]) == (38.5, 5.0)
    assert (facts["platform"], facts["instruments"], facts["processing:level"]) == ("sentinel-2b", ["msi"], "L2A")
    assert sum(name in url for url in item["stac_extensions"] for name in ("/eo/", "/view/", "/processing/")) == 3
    assert call_cli(["verify", tmp_path / "safe", "--recompute", "1"]).returncode == 0


def test_dates_of_different_baselines_compare(colors: NDArray[np.uint8], tmp_path: Path) -> None:
    """The same ground, stored without and with an offset: nothing has changed."""
    before = product_of(tmp_path / "a", colors, "03.01", None)
    after = product_of(tmp_path / "b", colors, "05.09", -1000)
    args = ["deforestation", before, after, "--model", "amazon-forest", "--out", tmp_path / "out", "--quiet"]
    done = call_cli([*args, "--acquired", "2021-07-11,2023-07-11", "--radiometry", "none"])
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").rglob("changes.json")
    document = json.loads(path.read_text())
    assert {entry["name"] for entry in document["classes"] if entry["pixels"]} == {"stable forest", "stable non-forest"}


def test_watch_takes_products_as_scenes(colors: NDArray[np.uint8], tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    safe = product_of(source, colors, "05.09", -1000)
    shutil.copytree(safe, source / "more" / safe.name.replace("S2B", "S2A"))
    args = ["watch", source, "--model", "amazon-forest", "--out", out, "--settle", "0s", "--once"]
    assert call_cli(args).returncode == 0
    listed = {path.parent.relative_to(out).as_posix() for path in out.rglob("run.json")}
    assert listed == {safe.stem, f"more/{safe.stem.replace('S2B', 'S2A')}"}
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    # A file that belongs to no scene changes nothing; one of an image does.
    (safe / "preview.html").write_text("<html/>")
    assert call_cli(args).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("run.json")} == finished
    (red,) = safe.rglob("*_B04_10m.jp2")
    shutil.copyfile(next(safe.rglob("*_B03_10m.jp2")), red)
    assert call_cli(args).returncode == 0
    changed = {path.parent.name for path in out.rglob("run.json") if path.stat().st_mtime_ns != finished[path]}
    assert changed == {safe.stem}


def test_inspect_tells_of_a_product(colors: NDArray[np.uint8], tmp_path: Path) -> None:
    safe = product_of(tmp_path, colors, "05.09", -1000)
    done = call_cli(["inspect", safe, "--model", "amazon-forest", "--json"])
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["product"], facts["level"], facts["baseline"]) == (safe.stem, "L2A", "05.09")
    assert facts["cloud cover"] == "12.345678 %"
    assert facts["bands of amazon-forest"][:3] == ["red: 3 b04", "green: 2 b03", "blue: 1 b02"]
    next(safe.rglob("*_B04_10m.jp2")).unlink()
    facts = json.loads(call_cli(["inspect", safe, "--model", "amazon-forest", "--json"]).stdout)
    assert "B04_10m.jp2: is not there" in facts["bands of amazon-forest"][0]
    assert facts["absent"] == [facts["absent"][0]]
