"""``geoseg quantize``: a shipped model in integers, its loss on real labels, and a map that tiles leave no trace in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from support import call_cli

from geoseg.models.model_folder import load_model


@pytest.fixture(scope="module")
def images(shared: Path) -> Path:
    return shared / "data" / "amazon_forest" / "val" / "images"


@pytest.fixture(scope="module")
def integers(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "forest-int8"
    args = ["quantize", "amazon-forest", "-i", images, "-l", images.parent / "masks", "-o", out]
    done = call_cli([*args, "--crops", "8"])
    assert done.returncode == 0, done.stderr
    assert "of the pixels have the class of the network in 32 bits; of labelled pixels" in done.stdout
    return out


def test_the_loss_stands_in_the_card(integers: Path, images: Path) -> None:
    model = load_model(str(integers))
    facts = model.card.quantization
    assert facts is not None
    assert facts.crops == 4
    assert facts.agreement > 0.95
    before, after = facts.accuracy
    assert after > before - 0.02
    assert model.weights is None
    assert load_model("amazon-forest").sha256 != model.sha256
    assert "## In integers" in (integers / "README.md").read_text()
    assert json.loads((integers / "card.json").read_text())["mlm:name"] == "amazon-forest-int8"
    done = call_cli(["quantize", integers, "-i", images, "-o", integers.parent / "again"])
    assert done.returncode == 2
    assert "computes in integers already" in done.stderr
    assert not (integers.parent / "again").exists()


def test_tiles_and_threads_leave_no_trace(integers: Path, images: Path, tmp_path: Path) -> None:
    image = min(images.glob("*.tif"))
    maps = []
    for tile, threads in (("704", "2"), ("1024", "1")):
        out = tmp_path / tile
        done = call_cli(["segment", image, "-m", integers, "-o", out, "--halo", "exact", "--tile", tile, "--threads", threads])
        assert done.returncode == 0, done.stderr
        with (
            rasterio.open(out / image.stem / "classes.tif") as classes,
            rasterio.open(out / image.stem / "confidence.tif") as sure,
        ):
            maps.append(np.stack([classes.read(1), sure.read(1)]))
    np.testing.assert_array_equal(*maps)
