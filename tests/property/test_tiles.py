"""Tiles: with the exact halo, any tiling equals one forward pass over the whole image, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.grid import Grid
from geoseg.inference.averaging import EnsembleMember
from geoseg.inference.choice import open_engine
from geoseg.inference.chunks import classify_chunk
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Engine
from geoseg.inference.normalization import Normalization
from geoseg.models.model_folder import Model
from geoseg.procedural import Frontier
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.scenes.reader import Pixels
from geoseg.windows import Window

HEIGHT, WIDTH = 640, 800


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """A real kind of scene with a corner without data: pixels and validity."""
    image, truth = Frontier(4096, 4096).window(Window.at((0, 150), (HEIGHT, WIDTH)))
    return image, truth != 255


def normalization(model: Model) -> Normalization:
    bands = len(model.card.bands)
    return Normalization.of(model.card, ValueMap((1.0,) * bands, (0.0,) * bands))


@pytest.fixture(scope="module")
def engine(forest: Model) -> Engine:
    return open_engine("onnx", forest, normalization(forest), threads=2)


def classified(scene: tuple[np.ndarray, np.ndarray], grid: Grid, engine: Engine, model: Model, **options: bool) -> np.ndarray:
    image, valid = scene
    out = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    for chunk in grid.chunks():
        pixels = Pixels(np.ascontiguousarray(image[(slice(None), *chunk.window.slices)]), valid[chunk.window.slices], None)
        layers = classify_chunk(grid, chunk, pixels, [EnsembleMember(engine, Decision.of(model.card))], **options)
        out[(slice(None), *chunk.core.slices)] = layers.classes, layers.confidence
    return out


@pytest.fixture(scope="module")
def whole(scene: tuple[np.ndarray, np.ndarray], engine: Engine, forest: Model) -> np.ndarray:
    return classified(scene, Grid(HEIGHT, WIDTH, tile=2048, halo=0, stride=16), engine, forest)


@pytest.mark.parametrize(
    ("tile", "chunk"), [(640, 500), *(pytest.param(512, chunk, marks=pytest.mark.slow) for chunk in (4096, 300))]
)
def test_exact_halo_equals_the_whole_image(scene, engine, forest, whole, tile: int, chunk: int) -> None:
    grid = Grid(HEIGHT, WIDTH, tile=tile, halo=forest.card.exact_halo, stride=16, chunk=chunk)
    np.testing.assert_array_equal(classified(scene, grid, engine, forest), whole)


def test_small_halo_differs_little(scene, engine, forest, whole) -> None:
    result = classified(scene, Grid(HEIGHT, WIDTH, tile=512, halo=64, stride=16), engine, forest)
    assert 0 < (result[0] != whole[0]).mean() < 0.005


@pytest.mark.parametrize("options", [{"blend": True}, pytest.param({"augment": True}, marks=pytest.mark.slow)], ids=str)
def test_chunks_do_not_matter(scene, engine, forest, options: dict[str, bool]) -> None:
    blend = options.get("blend", False)
    run = {"augment": options.get("augment", False)}
    results = [
        classified(scene, Grid(HEIGHT, WIDTH, tile=512, halo=64, stride=16, chunk=chunk, blend=blend), engine, forest, **run)
        for chunk in (4096, 300)
    ]
    np.testing.assert_array_equal(*results)


def test_torch_gives_the_same_classes(scene, forest, whole) -> None:
    pytest.importorskip("torch")
    engine = open_engine("torch", forest, normalization(forest), device="cpu")
    result = classified(scene, Grid(HEIGHT, WIDTH, tile=1024, halo=forest.card.exact_halo, stride=16), engine, forest)
    # Sums in another order: what is undecided to the last bits may tip over.
    assert (result[0] != whole[0]).sum() <= 5
    assert np.abs(result[1].astype(int) - whole[1]).max() <= 1


def test_no_data_has_no_class(scene, whole) -> None:
    np.testing.assert_array_equal(whole[0] == 255, ~scene[1])
    np.testing.assert_array_equal(whole[1] == 255, ~scene[1])
