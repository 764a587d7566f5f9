"""Maps of values: what a network regresses, through the same tiles, chunks and masks as classes, as codes of 16 bits."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pystac
import pytest
import rasterio
from support import ROOT, WriteRaster, call_cli, patchy, run_cli, save_values

from geoseg.errors import ConfigError
from geoseg.models.ensemble import Ensemble
from geoseg.models.model_folder import Model, load_model
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.segment.run import segment_scene

NO_DATA, SCALE, OFFSET = 0, 0.01, -2.0
SLOPE, INTERCEPT = 30.0, 12.0
NOT_ANALYSED, NO_VALUE = 65534, 65535
FINALS = ("values.tif", "values.qml", "coverage.geojson", "preview.png", "item.json", "model.json")


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Sees a corner of its neighbourhood, so that turned images give other values; some lie below all codes."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 5, padding=2), torch.nn.Tanh(), torch.nn.Conv2d(4, 1, 3, padding=1))
    with torch.no_grad():
        network[0].weight.mul_(0.02)
    folder = tmp_path_factory.mktemp("models") / "heights"
    return save_values(network, 1, folder, scale=SCALE, offset=OFFSET, slope=SLOPE, intercept=INTERCEPT)


def blended(model: Model, folder: Path) -> Model:
    """The same network under a card that has tiles blended."""
    import shutil

    shutil.copytree(model.path, folder)
    model.card.model_copy(update={"global_context": True}).write(folder / "card.json")
    return load_model(str(folder))


def picture(side: tuple[int, int] = (420, 530)) -> np.ndarray:
    """Values from 40 to 160, with a hole without data."""
    image = (40 + 30 * patchy(*side, 5, 3, 4.0)).astype(np.uint8)
    image[100:150, 30:200] = NO_DATA
    return image


def segment(path: Path, model: Any, out: Path, *, chunk: int = 4096, tile: int = 64, **sections: Any) -> Path:
    (ref,), _ = list_scenes([str(path)])
    given = {"grid": {"tile": tile, "halo": "exact", "chunk": chunk}} | sections
    report = segment_scene(ref, model, Config.parse(given), out)
    assert report.status == "done", report.reason
    return out / report.scene


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def forward(model: Model, image: np.ndarray) -> np.ndarray:
    """Values (h, w) of one pass over the whole image, where nothing is tiled."""
    assert model.onnx is not None
    session = onnxruntime.InferenceSession(str(model.onnx), providers=["CPUExecutionProvider"])
    output = session.run(None, {"image": image[None, None].astype(np.float32)})[0][0, 0]
    quantity = model.card.quantity
    assert quantity is not None
    return quantity.slope * output.astype(np.float64) + quantity.intercept


def as_codes(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    codes = np.clip(np.round((values - OFFSET) / SCALE), 0, 65533).astype(np.uint16)
    return np.where(valid, codes, np.uint16(NO_VALUE))


@pytest.mark.parametrize(("tile", "chunk"), [(64, 256), (1024, 4096)])
def test_tiled_is_untiled(write_raster: WriteRaster, lopsided: Model, tmp_path: Path, tile: int, chunk: int) -> None:
    image = picture()
    folder = segment(write_raster(image, nodata=NO_DATA), lopsided, tmp_path / "out", tile=tile, chunk=chunk)
    values, valid = forward(lopsided, image), image != NO_DATA
    found, wanted = read(folder / "values.tif"), as_codes(values, valid)
    assert found.dtype == np.uint16
    assert np.array_equal(found, wanted)
    assert not [path.name for path in folder.iterdir() if path.stem in ("classes", "confidence", "polygons")]
    with rasterio.open(folder / "values.tif") as dataset:
        assert (dataset.scales, dataset.offsets, dataset.units, dataset.nodata) == ((SCALE,), (OFFSET,), ("m",), NO_VALUE)
        assert dataset.descriptions == ("canopy height",)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        half = dataset.read(1, out_shape=(210, 265))
    # Overviews are means of what has a value.
    fours = np.stack([wanted[r::2, c::2].astype(float) for r in (0, 1) for c in (0, 1)])
    known = fours < NOT_ANALYSED
    mean = np.where(known, fours, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    assert np.array_equal(half, np.where(known.any(axis=0), np.floor(mean + 0.5), NO_VALUE))
    inner = valid & (values > OFFSET)
    assert np.abs(found * SCALE + OFFSET - values)[inner].max() <= SCALE / 2 + 1e-9


def test_figures_are_exact(write_raster: WriteRaster, lopsided: Model, tmp_path: Path) -> None:
    image = picture()
    folder = segment(write_raster(image, nodata=NO_DATA), lopsided, tmp_path / "out", chunk=256)
    codes, valid = read(folder / "values.tif").astype(np.float64), image != NO_DATA
    stored, exact = codes[valid] * SCALE + OFFSET, forward(lopsided, image)[valid]
    record = json.loads((folder / "run.json").read_text())
    told = record["values"]
    assert (told["least"], told["most"]) == pytest.approx((stored.min(), stored.max()), rel=1e-9)
    assert (told["mean"], told["deviation"]) == pytest.approx((stored.mean(), stored.std()), rel=1e-6)
    below = int((np.round((exact - OFFSET) / SCALE) < 0).sum())
    assert told["pixels"] == valid.sum()
    assert (told["clipped_below"], told["clipped_above"]) == (below, 0)
    assert below > 0
    assert any(f"{below:,} pixels" in note for note in record["warnings"])
    page = (folder / "report.html").read_text()
    assert "Map of canopy height, m" in page
    assert "Mean confidence" not in page
    item = pystac.Item.from_file(str(folder / "item.json"))
    (band,) = item.assets["values"].extra_fields["bands"]
    assert (band["raster:scale"], band["raster:offset"], band["unit"], band["nodata"]) == (SCALE, OFFSET, "m", NO_VALUE)


@pytest.mark.parametrize("kind", ["cropped", "blended", "turned", "two"])
def test_chunks_do_not_matter(write_raster: WriteRaster, lopsided: Model, tmp_path: Path, kind: str) -> None:
    path = write_raster(picture(), nodata=NO_DATA)
    sections: dict[str, Any] = {"infer": {"tta": "d4"}} if kind == "turned" else {}
    model: Any = lopsided
    if kind == "blended":
        model = blended(lopsided, tmp_path / "blended")
        sections = {"grid": {"tile": 64, "halo": 16}}
    if kind == "two":
        other = tmp_path / "other"
        blended(lopsided, other)
        quantity = lopsided.card.quantity
        assert quantity is not None
        lopsided.card.model_copy(update={"quantity": quantity.model_copy(update={"intercept": 2.0})}).write(other / "card.json")
        model = Ensemble.of([lopsided, load_model(str(other))])
    folders = []
    for chunk in (4096, 256):
        grid = {"tile": 64, "halo": "exact", **sections.get("grid", {}), "chunk": chunk}
        folders.append(segment(path, model, tmp_path / str(chunk), **{**sections, "grid": grid}))
    one, other_folder = folders
    for name in FINALS:
        assert (one / name).read_bytes() == (other_folder / name).read_bytes(), name
    if kind == "two":
        image = picture()
        mean = forward(lopsided, image) - 5.0
        assert np.array_equal(read(one / "values.tif"), as_codes(mean, image != NO_DATA))


def test_what_gives_no_number_is_not_analysed(write_raster: WriteRaster, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Poison(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: Any) -> Any:
            return torch.sqrt(199.5 - x) * self.weight

    model = save_values(Poison(), 1, tmp_path / "poison", scale=0.001)
    image = np.full((512, 512), 100, np.uint8)
    image[10, 20] = 220
    (ref,), _ = list_scenes([str(write_raster(image))])
    config = Config.parse({"grid": {"tile": 64, "halo": 0, "chunk": 256}})
    report = segment_scene(ref, model, config, tmp_path / "out")
    assert report.status == "partial"
    assert "NaN or infinity for 1 pixels" in str(report.reason)
    codes = read(tmp_path / "out" / report.scene / "values.tif")
    wanted = np.full(image.shape, round(99.5**0.5 / 0.001), np.uint16)
    wanted[:256, :256] = NOT_ANALYSED
    assert np.array_equal(codes, wanted)


def test_area_and_masks(write_raster: WriteRaster, lopsided: Model, tmp_path: Path) -> None:
    """What lies outside of the area is no data, what clouds hide is not analysed; all other pixels keep their values."""
    image = picture()
    path = write_raster(image, nodata=NO_DATA)
    mask = np.zeros_like(image)
    mask[200:300, 100:400] = 1
    clouds = write_raster(mask, name="clouds.tif")
    whole = read(segment(path, lopsided, tmp_path / "whole") / "values.tif")
    masked = read(segment(path, lopsided, tmp_path / "masked", scene={"clouds": str(clouds)}) / "values.tif")
    assert np.array_equal(masked, np.where((mask == 1) & (image != NO_DATA), NOT_ANALYSED, whole))
    with rasterio.open(path) as dataset:
        (left, top), (right, bottom) = dataset.transform @ (50, 60), dataset.transform @ (350, 380)
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    area = tmp_path / "area.geojson"
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32720"}}
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    area.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    cut = read(segment(path, lopsided, tmp_path / "cut", area={"aoi": str(area)}) / "values.tif")
    inside = np.zeros(image.shape, np.bool_)
    inside[60:380, 50:350] = True
    assert np.array_equal(cut, np.where(inside, whole, NO_VALUE))


def test_killed(write_raster: WriteRaster, lopsided: Model, tmp_path: Path) -> None:
    path = write_raster(picture((2100, 1300)), nodata=NO_DATA)
    command = ["segment", str(path), "-m", str(lopsided.path), "--tile", "64", "--halo", "exact", "--chunk", "256"]
    done = run_cli([*command, "-o", tmp_path / "one"])
    assert done.returncode == 0, done.stderr
    manifest = tmp_path / "two" / "scene" / ".run" / "manifest.jsonl"
    process = subprocess.Popen([sys.executable, "-m", "pipeline", *command, "-o", str(tmp_path / "two")], cwd=ROOT)
    while process.poll() is None and not (manifest.is_file() and manifest.read_bytes().count(b'"chunk":') > 20):
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = run_cli([*command, "-o", tmp_path / "two"])
    assert done.returncode == 0, done.stderr
    for name in FINALS:
        assert (tmp_path / "one/scene" / name).read_bytes() == (tmp_path / "two/scene" / name).read_bytes(), name


def test_verified(write_raster: WriteRaster, lopsided: Model, tmp_path: Path) -> None:
    """Chunks are computed anew, and what was changed in the map is found."""
    folder = segment(write_raster(picture(), nodata=NO_DATA), lopsided, tmp_path / "out", chunk=256)
    done = call_cli(["verify", tmp_path / "out", "--recompute", "9"])
    assert done.returncode == 0, done.stderr
    assert "all equal" in done.stdout
    with rasterio.open(folder / "values.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        row = dataset.read(1, window=((300, 301), (0, 530)))
        dataset.write(np.where(row < NOT_ANALYSED, row + 1, row)[None].astype(np.uint16), window=((300, 301), (0, 530)))
    done = call_cli(["verify", tmp_path / "out", "--recompute", "9"])
    assert done.returncode != 0
    assert "values.tif" in done.stdout + done.stderr


def test_what_needs_classes_is_refused(write_raster: WriteRaster, lopsided: Model, tmp_path: Path) -> None:
    path, model = write_raster(picture((80, 90)), nodata=NO_DATA), lopsided.path
    folder = segment(path, lopsided, tmp_path / "out")
    other = write_raster(picture((80, 90)), name="other.tif", nodata=NO_DATA)
    needs = "needs classes, and heights regresses canopy height, m"
    for args, sentence in (
        (["segment", path, "-m", model, "--mosaic", "-o", tmp_path / "a"], f"mosaic: {needs}"),
        (["segment", path, "-m", model, "--clouds", f"model:{model}", "-o", tmp_path / "b"], needs),
        (["deforestation", path, other, "-m", model, "-o", tmp_path / "c"], f"deforestation: {needs}"),
        (["damage", path, other, "-m", model, "-o", tmp_path / "d"], f"damage: {needs}"),
        (["calibrate", model, "-i", path, "-l", path], f"calibrate: {needs}"),
        (["quantize", model, "-i", path], f"quantize: {needs}"),
        (
            ["vectorize", folder / "values.tif", "-o", tmp_path / "x.gpkg"],
            "is a map of values, of canopy height; a map of classes",
        ),
        (["review", "export", folder, "-o", tmp_path / "r.gpkg"], "holds a map of values; people review the polygons of classes"),
        (["match", folder, folder], "is a map of values, without classes and polygons"),
        (["view", tmp_path / "out"], "is a map of values, without classes and polygons"),
    ):
        done = call_cli(args)
        assert done.returncode != 0, args
        assert sentence in done.stderr, (args, done.stderr)
    assert not (tmp_path / "d").exists(), "no buildings are looked for"
    told = call_cli(["inspect", model]).stdout
    assert "canopy height, m" in told
    assert "-2 to 653.33 m, in steps of 0.01 m" in told


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("infer", "task", "semantic"),
        ("infer", "probabilities", True),
        ("infer", "uncertainty", True),
        ("vector", "simplify", 2.0),
        ("vector", "formats", ["gpkg"]),
        ("area", "aoi_cut", "exact"),
    ],
)
def test_settings_of_classes_are_refused(
    write_raster: WriteRaster, lopsided: Model, tmp_path: Path, section: str, key: str, value: object
) -> None:
    (ref,), _ = list_scenes([str(write_raster(picture((80, 90)), nodata=NO_DATA))])
    config = Config.parse({"grid": {"tile": 64}, section: {key: value}})
    with pytest.raises(ConfigError, match=rf"{section}\.{key}: is for maps of classes, and heights regresses canopy height, m"):
        segment_scene(ref, lopsided, config, tmp_path / "out")
