"""``geoseg calibrate``: an overconfident network becomes one whose confidence is what it says, up to the polygons."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from support import WriteRaster, call_cli, save

from geoseg.models.model_folder import Model, load_model

GRID = ("--tile", "128", "--halo", "0", "--chunk", "256")


@pytest.fixture(scope="module")
def overconfident(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Scores four times as far from each other as they are to be: ``(x - 100) / 5`` for class 1 against class 0."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 0.2]).view(2, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.0, -20.0]))
    return save(network, 1, 2, tmp_path_factory.mktemp("models") / "overconfident")


def labelled(write_raster: WriteRaster, name: str, side: int, seed: int) -> tuple[Path, Path]:
    """A scene, and labels that are 1 with the probability ``sigmoid((x - 100) / 20)``; a corner is not labelled."""
    rng = np.random.default_rng(seed)
    # Rows of one value, so that polygons of one class have one confidence.
    image = np.repeat(rng.integers(40, 161, (side, 1)), side, axis=1).astype(np.uint8)
    labels = (rng.random(image.shape) < 1 / (1 + np.exp(-(image - 100.0) / 20))).astype(np.uint8)
    labels[:20, :20] = 255
    return write_raster(image, f"{name}.tif"), write_raster(labels, f"../labels/{name}.tif", nodata=255)


def test_confidence_becomes_frequency(overconfident: Model, write_raster: WriteRaster, tmp_path: Path) -> None:
    scene, labels = labelled(write_raster, "one", 300, 1)
    out = tmp_path / "calibrated"
    args = ["calibrate", overconfident.path, "--images", scene, "--labels", labels, "--method", "temperature"]
    done = call_cli([*args, "-o", out, *GRID])
    assert done.returncode == 0, done.stderr
    model = load_model(str(out))
    assert model.card.calibration.gain == pytest.approx((0.25, 0.25), rel=0.05)
    figures = json.loads((out / "calibration.json").read_text())
    before, after = figures["measures"]["before"], figures["measures"]["temperature"]
    assert before["ece"] > 0.1
    assert after["ece"] < 0.02
    assert after["nll"] < before["nll"]
    assert after["accuracy"] == before["accuracy"]
    # Half of the blocks are held out, what is next to them is in neither part.
    assert 0 < figures["fitted_on"]["pixels"] < 300 * 300 - figures["held_out"]["pixels"] - 400
    assert (out / "calibration.png").read_bytes().startswith(b"\x89PNG")
    assert "## Calibration" in (out / "README.md").read_text()
    # The network is the same, the model is another one.
    assert (out / "model.onnx").read_bytes() == (overconfident.path / "model.onnx").read_bytes()
    assert model.sha256 != overconfident.sha256

    done = call_cli(["segment", scene, "-m", out, "-o", tmp_path / "maps", "--classes", "0,1", *GRID])
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "maps" / "one" / "confidence.tif") as dataset, rasterio.open(scene) as source:
        sure, x = dataset.read(1).astype(float), source.read(1).astype(float)
    p = 1 / (1 + np.exp(-np.abs(x - 100) / 5 * model.card.calibration.gain[0]))
    assert np.abs(sure - 100 * p).max() <= 0.51
    frame = geopandas.read_file(tmp_path / "maps" / "one" / "polygons.gpkg", layer="polygons")
    with rasterio.open(tmp_path / "maps" / "one" / "classes.tif") as dataset:
        codes = dataset.read(1)
    mean = {code: float((frame["confidence"] * frame["area_m2"])[frame["code"] == code].sum()) for code in (0, 1)}
    for code in (0, 1):
        area = frame["area_m2"][frame["code"] == code].sum()
        assert mean[code] / area == pytest.approx(sure[codes == code].mean(), abs=0.2)


def test_auto_over_scenes_and_mistakes(overconfident: Model, write_raster: WriteRaster, tmp_path: Path) -> None:
    for seed in range(4):
        scene, labels = labelled(write_raster, f"s{seed}", 130, seed)
    args = ["calibrate", overconfident.path, "--images", scene.parent, "--labels", labels.parent, "-o", tmp_path / "m", *GRID]
    done = call_cli(args)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "m" / "calibration.json").read_text())
    nll = {name: values["nll"] for name, values in figures["measures"].items()}
    assert set(nll) == {"before", "temperature", "vector", "isotonic", "cubic"}
    assert figures["method"] == min(nll, key=nll.__getitem__) != "before"
    assert not {*figures["fitted_on"]["scenes"]} & {*figures["held_out"]["scenes"]}
    low, high = figures["intervals_95"]["before"]["ece"]
    assert low <= figures["measures"]["before"]["ece"] <= high

    for change, words in [
        ([], "exists; choose another --out"),
        (["--out", str(overconfident.path), "--overwrite"], "is the model itself"),
        (["--out", str(tmp_path / "n"), "--labels", str(tmp_path / "none")], "neither a file nor a folder"),
    ]:
        done = call_cli([*args, *change])
        assert done.returncode == 2, done.stdout
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    labels.unlink()
    done = call_cli([*args, "--overwrite"])
    assert done.returncode == 2
    assert "1 of 4 scenes have none, first s3" in done.stderr
    # What was there stays as it was.
    assert json.loads((tmp_path / "m" / "calibration.json").read_text()) == figures
    assert not list(tmp_path.glob(".m*"))
