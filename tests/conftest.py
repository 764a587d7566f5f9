"""What tests share: the labelled imagery beside the repository, and small models made once a session."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from bad_rasters import make_bad_rasters
from frontier_scenes import write_frontier_scenes
from hypothesis import Phase, settings
from stand_in import services
from support import ROOT, TRANSFORM, UTM, WriteRaster, patchy, save

from geoseg.models.model_folder import Model, load_model

# Each process of the tests keeps to one core: threads of torch and BLAS that wait for each other on a busy one only spin.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# Runs wait after each file until it is on the disk, which would be a third of the time of the tests: where memory has room, what
# they write lies there, as what passes leaves nothing behind (``tmp_path_retention_policy``).
MEMORY, ROOM = Path("/dev/shm"), 4 << 30
if (
    "TMPDIR" not in os.environ
    and os.access(MEMORY, os.W_OK)
    and min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) >= ROOM
):
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

settings.register_profile("geoseg", deadline=None)
# For tests/mutants.py: the same examples in every run, and the first failure is enough.
settings.register_profile("mutants", deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
settings.load_profile("geoseg")

SHARED = Path(os.environ.get("SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real imagery and checkers: beside the repository, or where SHARED says."""
    if not SHARED.is_dir():
        pytest.skip(f"the labelled imagery is not in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def forest_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of forest and their masks, ``train/images``, ``train/masks``, ``val/…``: the labelled imagery, or scenes by rule."""
    real = SHARED / "data" / "amazon_forest"
    return real if real.is_dir() else write_frontier_scenes(tmp_path_factory.mktemp("forest"))


@pytest.fixture(scope="session")
def bad_rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of awkward rasters."""
    folder = tmp_path_factory.mktemp("bad") / "rasters"
    make_bad_rasters(folder)
    return folder


@pytest.fixture(scope="session")
def forest() -> Model:
    """The shipped model."""
    return load_model("amazon-forest")


@pytest.fixture(scope="session")
def identity_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network whose class is its input: score k = 2 k x - k**2 is largest for k = x."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(1, 6, 1)
    with torch.no_grad():
        k = torch.arange(6.0)
        network.weight.copy_((2 * k).view(6, 1, 1, 1))
        network.bias.copy_(-(k**2))
    return save(network, 1, 6, tmp_path_factory.mktemp("models") / "identity")


@pytest.fixture(scope="session")
def told_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that is told all objects: class, boundary and distance are bands of the image."""
    from tests.houses import make_told_model

    return make_told_model(tmp_path_factory.mktemp("models") / "told")


@pytest.fixture(scope="session")
def poison_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that gives NaN where the input is 200 or more."""
    torch = pytest.importorskip("torch")

    class Poison(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: Any) -> Any:
            return torch.cat([torch.sqrt(199.5 - x) * self.weight, x * 0 + 10], dim=1)

    return save(Poison(), 1, 2, tmp_path_factory.mktemp("models") / "poison")


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """Writes (bands, h, w) or (h, w) arrays as tiled GeoTIFFs."""

    def write(array: np.ndarray, name: str = "scene.tif", **profile: Any) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = array[None] if array.ndim == 2 else array
        given = {
            "driver": "GTiff",
            "count": len(data),
            "height": data.shape[1],
            "width": data.shape[2],
            "dtype": data.dtype.name,
            "crs": UTM,
            "transform": TRANSFORM,
            "compress": "deflate",
        }
        if min(data.shape[1:]) >= 64:
            given |= {"tiled": True, "blockxsize": 64, "blockysize": 64}
        with rasterio.open(path, "w", **given | profile) as dataset:
            dataset.write(data)
        return path

    return write


@pytest.fixture
def put(write_raster: WriteRaster) -> Callable[..., Path]:
    """Writes a scene of the folder that is watched, so many columns from the first one."""

    def write(name: str, col: int, seed: int = 0) -> Path:
        place = TRANSFORM @ rasterio.Affine.translation(col, 0)
        return write_raster(patchy(100, 120, 3, seed), f"{name}.tif", transform=place)

    return write


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[str]:
    """Address of a server with S3 buckets below ``tmp_path`` and a STAC API."""
    with services(tmp_path) as address:
        yield address
