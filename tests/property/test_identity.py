"""The whole pipeline with a network that returns its input: the map is the image, whatever the grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.features
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import WriteRaster, contents, patchy

from geoseg.models.model_folder import Model
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.publish.report import SceneReport
from pipeline.segment.run import segment_scene

NO_DATA = 77


def segment(path: Path, model: Model, out: Path, **sections: dict[str, object]) -> SceneReport:
    (ref,), _ = list_scenes([str(path)])
    return segment_scene(ref, model, Config.parse(sections), out)


@given(
    height=st.integers(1, 260),
    width=st.integers(1, 260),
    seed=st.integers(0, 99),
    tile=st.integers(32, 150),
    halo=st.integers(0, 15),
    chunk=st.integers(256, 400),
    holes=st.booleans(),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_map_is_the_image(  # noqa: PLR0917
    tmp_path_factory: pytest.TempPathFactory,
    write_raster: WriteRaster,
    identity_model: Model,
    height: int,
    width: int,
    seed: int,
    tile: int,
    halo: int,
    chunk: int,
    holes: bool,
) -> None:
    image = patchy(height, width, 6, seed, 3.0) if min(height, width) > 3 else np.full((height, width), 3, np.uint8)
    if holes:
        image[height // 3 : height // 2] = NO_DATA
    path = write_raster(image, f"{height}_{width}_{seed}.tif", nodata=NO_DATA)
    out = tmp_path_factory.mktemp("out")
    report = segment(path, identity_model, out, grid={"tile": tile, "halo": halo, "chunk": chunk}, vector={"formats": ["gpkg"]})
    expected = np.where(image == NO_DATA, 255, image)
    folder = out / report.scene
    with rasterio.open(folder / "classes.tif") as dataset, rasterio.open(path) as source:
        np.testing.assert_array_equal(dataset.read(1), expected)
        assert dataset.transform == source.transform
        assert dataset.crs == source.crs
    import geopandas

    frame = geopandas.read_file(folder / "polygons.gpkg")
    back = np.full(image.shape, 255, np.uint8)
    shapes = list(zip(frame.geometry, frame["code"].astype(int), strict=True))
    if shapes:
        with rasterio.open(path) as source:
            rasterio.features.rasterize(shapes, out=back, transform=source.transform)
    np.testing.assert_array_equal(back, expected)
    by_code = {part.code: part.pixels for part in report.classes}
    for code in (*range(6), 255):
        assert by_code[code] == (expected == code).sum()


def test_same_bytes_whatever_the_chunks(tmp_path: Path, forest: Model, forest_data: Path) -> None:
    scene = min((forest_data / "val" / "images").glob("*.tif"))
    results = []
    for chunk in (4096, 256):
        out = tmp_path / str(chunk)
        report = segment(
            scene, forest, out, grid={"tile": 256, "halo": 32, "chunk": chunk}, vector={"min_area": "1ha", "simplify": 1}
        )
        results.append(contents(out / report.scene))
    assert results[0] == results[1]
