"""Layers on request: probabilities and uncertainty, of one model and of ensembles, whatever the chunks and interruptions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import scipy.special
from support import ROOT, WriteRaster, call_cli, contents, patchy, save

from geoseg.errors import ConfigError
from geoseg.models.ensemble import AnyModel, Ensemble
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.segment.run import segment_scene

CLASSES, NO_DATA = 3, 0
LAYERS = ("probabilities.tif", "uncertainty.tif")


def pixelwise(folder: Path, slope: float, **facts: Any) -> Model:
    """Scores of three classes from the pixel alone: ``slope * (0, x / 10 - 10, 10 - x / 10)``."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(1, CLASSES, 1)
    with torch.no_grad():
        network.weight.copy_(slope * torch.tensor([0.0, 0.1, -0.1]).view(CLASSES, 1, 1, 1))
        network.bias.copy_(slope * torch.tensor([0.0, -10.0, 10.0]))
    return save(network, 1, CLASSES, folder, **facts)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    folder = tmp_path_factory.mktemp("models")
    half = {"gain": (0.5,) * CLASSES, "offset": (0.0, 0.2, 0.0)}
    return pixelwise(folder / "steep", 0.5), pixelwise(folder / "gentle", -0.3, calibration=half)


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that sees a corner of its neighbourhood, so that turned images give other scores."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    network = torch.nn.Conv2d(1, CLASSES, 5, padding=2)
    with torch.no_grad():
        network.weight.mul_(0.2)
    return save(network, 1, CLASSES, tmp_path_factory.mktemp("models") / "lopsided")


@pytest.fixture(scope="module")
def lopsided_with_context(lopsided: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The same under a card that has tiles blended."""
    import shutil

    from geoseg.models.model_folder import load_model

    folder = tmp_path_factory.mktemp("models") / "blended"
    shutil.copytree(lopsided.path, folder)
    lopsided.card.model_copy(update={"global_context": True}).write(folder / "card.json")
    return load_model(str(folder))


def picture(side: tuple[int, int] = (420, 530)) -> np.ndarray:
    """Values from 40 to 160, with a hole without data."""
    image = (40 + 30 * patchy(*side, 5, 3, 4.0)).astype(np.uint8)
    image[100:150, 30:200] = NO_DATA
    return image


def segment(path: Path, model: AnyModel, out: Path, *, chunk: int = 4096, tile: int = 64, **infer: object) -> Path:
    (ref,), _ = list_scenes([str(path)])
    sections = {"grid": {"tile": tile, "halo": 16, "chunk": chunk}, "vector": {"formats": ["geojson", "gpkg"]}, "infer": infer}
    report = segment_scene(ref, model, Config.parse(sections), out)
    assert report.status == "done"
    return out / report.scene


def bands(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def softmax_of(image: np.ndarray, model: Model, slope: float) -> np.ndarray:
    x = image.astype(np.float64)
    scores = slope * np.stack([0 * x, x / 10 - 10, 10 - x / 10])
    if model.card.calibration:
        scores = scores * model.card.calibration.gain[0] + np.array(model.card.calibration.offset)[:, None, None]
    return scipy.special.softmax(scores, axis=0)


def test_probabilities(write_raster: WriteRaster, members: tuple[Model, Model], tmp_path: Path) -> None:
    image = picture((700, 530))
    path = write_raster(image, nodata=NO_DATA)
    model = members[1]
    plain = segment(path, model, tmp_path / "plain")
    folder = segment(path, model, tmp_path / "more", probabilities=True)
    for name in ("classes.tif", "confidence.tif", "polygons.geojson"):
        assert (plain / name).read_bytes() == (folder / name).read_bytes()
    assert not (plain / "probabilities.tif").exists()
    percent, valid = bands(folder / "probabilities.tif"), image != NO_DATA
    assert percent.shape == (CLASSES, *image.shape)
    assert (percent[:, ~valid] == 255).all()
    assert np.abs(percent - 100 * softmax_of(image, model, -0.3))[:, valid].max() <= 0.51
    chosen = np.take_along_axis(percent, np.where(valid, bands(folder / "classes.tif")[0], 0)[None].astype(int), 0)[0]
    assert np.abs(chosen.astype(int) - bands(folder / "confidence.tif")[0])[valid].max() <= 1
    with rasterio.open(folder / "probabilities.tif") as dataset:
        assert dataset.descriptions == tuple(c.name for c in model.card.classes)
        assert dataset.nodata == 255
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert [dataset.overviews(k) for k in dataset.indexes] == [[2]] * CLASSES
        half = dataset.read(out_shape=(CLASSES, 350, 265))
    # A mean of four where all four hold data.
    four = [percent[:, r::2, c::2].astype(float) for r in (0, 1) for c in (0, 1)]
    inner = (np.stack(four) <= 100).all(axis=(0, 1))
    assert np.abs(half - np.mean(four, axis=0))[:, inner].max() <= 0.5
    item = json.loads((folder / "item.json").read_text())
    assert item["assets"]["probabilities"]["href"] == "./probabilities.tif"
    assert "probabilities.tif" in json.loads((folder / "run.json").read_text())["files"]


@pytest.mark.parametrize("kind", ["cropped", "blended"])
def test_chunks_do_not_matter(
    write_raster: WriteRaster, lopsided: Model, lopsided_with_context: Model, tmp_path: Path, kind: str
) -> None:
    path = write_raster(picture(), nodata=NO_DATA)
    model = lopsided if kind == "cropped" else lopsided_with_context
    wanted = {"probabilities": True, "uncertainty": True, "tta": "d4"}
    one, other = (segment(path, model, tmp_path / str(chunk), chunk=chunk, **wanted) for chunk in (4096, 256))
    assert contents(one) == contents(other)
    for name in LAYERS:
        assert (one / name).read_bytes() == (other / name).read_bytes()
    unsure = bands(one / "uncertainty.tif")[0]
    assert (unsure == 255).tolist() == (bands(one / "classes.tif")[0] == 255).tolist()
    assert 5 < unsure[unsure != 255].max() <= 100


def test_ensembles(write_raster: WriteRaster, members: tuple[Model, Model], tmp_path: Path) -> None:
    image = picture()
    path = write_raster(image, nodata=NO_DATA)
    wanted = {"probabilities": True, "uncertainty": True}
    folder = segment(path, Ensemble.of(members), tmp_path / "one", **wanted)
    other = segment(path, Ensemble.of(members[::-1]), tmp_path / "other", chunk=256, **wanted)
    assert contents(folder) == contents(other)
    for name in LAYERS:
        assert (folder / name).read_bytes() == (other / name).read_bytes()
    # Each member with its own calibration; disagreement is the information that the members have of each other.
    p = np.stack([softmax_of(image, members[0], 0.5), softmax_of(image, members[1], -0.3)])
    mean, valid = p.mean(axis=0), image != NO_DATA
    assert np.abs(bands(folder / "probabilities.tif") - 100 * mean)[:, valid].max() <= 0.51
    assert (bands(folder / "classes.tif")[0] != mean.argmax(axis=0))[valid].mean() < 1e-3
    entropy = scipy.special.entr(mean).sum(axis=0) - scipy.special.entr(p).sum(axis=1).mean(axis=0)
    assert np.abs(bands(folder / "uncertainty.tif")[0] - 100 * entropy / np.log(CLASSES))[valid].max() <= 0.51
    assert entropy.max() > 0.3
    report = json.loads((folder / "run.json").read_text())
    assert report["model"]["sha256"] == Ensemble.of(members).sha256 not in {m.sha256 for m in members}


def test_what_can_not_be(write_raster: WriteRaster, members: tuple[Model, Model], lopsided: Model, forest: Model) -> None:
    path = write_raster(picture((100, 100)))
    out = path.parent.parent / "out"
    with pytest.raises(ConfigError, match="nobody to disagree with"):
        segment(path, lopsided, out, uncertainty=True)
    with pytest.raises(ConfigError, match="the same classes"):
        Ensemble.of([forest, lopsided])
    with pytest.raises(ConfigError, match="give each once"):
        Ensemble.of([members[0], members[0]])
    # What differs in its layers is another result.
    hashes = {Config.parse({"infer": infer}).result_hash() for infer in ({}, {"probabilities": True}, {"uncertainty": True})}
    assert len(hashes) == 3


def test_failed_chunks_are_not_analysed_in_every_layer(write_raster: WriteRaster, poison_model: Model, tmp_path: Path) -> None:
    image = np.full((300, 600), 100, np.uint8)
    image[20, 20] = 230
    done = call_cli(
        [
            "segment",
            write_raster(image),
            "-m",
            poison_model.path,
            "-o",
            tmp_path,
            "--probabilities",
            "--tile",
            "64",
            "--halo",
            "0",
            "--chunk",
            "256",
        ]
    )
    assert done.returncode == 1
    classes, percent = bands(tmp_path / "scene" / "classes.tif")[0], bands(tmp_path / "scene" / "probabilities.tif")
    assert 0 < (classes == 254).sum() < classes.size
    for band in percent:
        assert (band == 254).tolist() == (classes == 254).tolist()


@pytest.mark.slow
def test_killed_with_more_layers(write_raster: WriteRaster, members: tuple[Model, Model], tmp_path: Path) -> None:
    path = write_raster(picture((1100, 1300)), nodata=NO_DATA)
    options = [
        "--model",
        members[0].path,
        "--model",
        members[1].path,
        "--tta",
        "d4",
        "--probabilities",
        "--uncertainty",
        "--tile",
        "64",
        "--halo",
        "16",
        "--chunk",
        "256",
    ]
    done = call_cli(["segment", path, "-o", tmp_path / "whole", *options])
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "pipeline", "segment", str(path), "-o", str(tmp_path / "cut"), *map(str, options)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    manifest = tmp_path / "cut" / "scene" / ".run" / "manifest.jsonl"
    while process.poll() is None and not (manifest.is_file() and manifest.read_bytes().count(b'"chunk":') > 5):
        time.sleep(0.01)
    assert process.poll() is None
    process.kill()
    process.wait()
    # Another chunk size: the run goes on with that of the first.
    done = call_cli(["segment", path, "-o", tmp_path / "cut", *options[:-1], "512"])
    assert done.returncode == 0, done.stderr
    assert "done before" in done.stderr
    one, other = tmp_path / "whole" / "scene", tmp_path / "cut" / "scene"
    assert contents(one) == contents(other)
    for name in LAYERS:
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.slow
def test_ensembles_on_workers(write_raster: WriteRaster, members: tuple[Model, Model], tmp_path: Path) -> None:
    path = write_raster(picture(), nodata=NO_DATA)
    wanted = {"probabilities": True, "uncertainty": True}
    here = segment(path, Ensemble.of(members), tmp_path / "here", **wanted)
    done = call_cli(
        [
            "segment",
            path,
            "-o",
            tmp_path / "there",
            "-m",
            members[0].path,
            "-m",
            members[1].path,
            "--workers",
            "2",
            "--probabilities",
            "--uncertainty",
            "--tile",
            "64",
            "--halo",
            "16",
            "--chunk",
            "256",
        ]
    )
    assert done.returncode == 0, done.stderr
    assert contents(here) == contents(tmp_path / "there" / "scene")
    for name in LAYERS:
        assert (here / name).read_bytes() == (tmp_path / "there" / "scene" / name).read_bytes()
