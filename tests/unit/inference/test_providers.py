"""Execution providers of ONNX Runtime by name: another one than the CPU is asked for, taken, recorded, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import rasterio
from support import WriteRaster, call_cli, save

from geoseg.errors import ConfigError
from geoseg.inference.choice import choose_engine
from geoseg.inference.onnx_session import OnnxSession
from geoseg.models.model_folder import load_model

MODEL = load_model("amazon-forest")
OTHERS = [name.removesuffix("ExecutionProvider") for name in ort.get_available_providers() if not name.startswith("CPU")]


@pytest.mark.skipif(not OTHERS, reason="this ONNX Runtime has no provider but the CPU's")
def test_a_run_takes_it_and_says_so(write_raster: WriteRaster, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, padding=2), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 3, padding=1))
    small = save(network, 3, 2, tmp_path / "small")
    image = np.random.default_rng(0).integers(0, 120, (3, 300, 420), np.uint8)
    scene = write_raster(image, photometric="rgb")
    args = ["segment", scene, "-m", small.path, "--tile", "64", "--halo", "exact", "--formats", "geojson", "--quiet"]
    maps = []
    for name in ("cpu", OTHERS[0].upper()):
        done = call_cli([*args, "--provider", name, "-o", tmp_path / name])
        assert done.returncode == 0, done.stderr
        folder = tmp_path / name / scene.stem
        run = json.loads((folder / "run.json").read_text())
        assert run["identity"].get("provider", "cpu") == name.casefold()
        with rasterio.open(folder / "classes.tif") as dataset:
            maps.append(dataset.read(1))
    # Tiles of one shape on a device, of several on the CPU: both see all that the network sees.
    np.testing.assert_array_equal(*maps)
    # What another provider made is no result of this run.
    done = call_cli([*args, "-o", tmp_path / OTHERS[0].upper()])
    assert done.returncode == 1
    assert "--overwrite" in done.stderr


def test_what_this_machine_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match=r"provider: nonesuch is none of this ONNX Runtime, which has .*cpu"):
        OnnxSession(MODEL.onnx, provider="nonesuch")
    with pytest.raises(ConfigError, match="provider: cuda is one of ONNX Runtime"):
        choose_engine(MODEL, "torch", provider="cuda")
    assert choose_engine(MODEL, "auto", gpus=1, provider="cuda") == "onnx"
