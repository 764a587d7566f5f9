"""Labels: what rasterio burns, window by window as in one piece, whatever the file, its CRS, its grid and the process."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import LIMIT_S, TRANSFORM, UTM, WriteRaster, patchy

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError, GeoreferenceError, ReadError
from geoseg.georeference import Georeference
from geoseg.labels.coco import Coco, decode_counts, decode_runs, mask_labels
from geoseg.labels.labels import Labels, open_labels, without_borders
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from geoseg.training.data.labelled import LabelledImage, Values
from geoseg.windows import Window

WKT = rasterio.crs.CRS.from_user_input(UTM).to_wkt()
DAMAGE = {"destroyed": 3, "major-damage": 2, "minor-damage": 1, "no-damage": 0}
SIDE = 300


def placed(transform: rasterio.Affine = TRANSFORM) -> Georeference:
    return Georeference(tuple(transform)[:6], WKT)


ROTATED = TRANSFORM * rasterio.Affine.translation(40, 30) * rasterio.Affine.rotation(25)


def whole(height: int = SIDE, width: int = SIDE) -> Window:
    return Window.of((height, width))


def random_windows(count: int, height: int, width: int, largest: int) -> list[Window]:
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, largest, (count, 2))
    return [Window.at((int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))), (int(h), int(w))) for h, w in sizes]


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize(
    ("image", "labels", "column", "codes"),
    [
        ("kampala_buildings/scene.tif", "kampala_buildings/buildings.geojson", None, {"": 1}),
        # Truly rotated, in degrees.
        ("joplin_damage/post.tif", "joplin_damage/post_buildings.geojson", "damage", DAMAGE),
    ],
)
def test_vectors_equal_rasterio(
    shared: Path, image: str, labels: str, column: str | None, codes: dict[str, int], touched: bool
) -> None:
    """Classes and object numbers are what rasterio burns through the image's own transform; windows are cut from that."""
    scene = open_scene([str(shared / "data" / image)], "scene", OpenOptions())
    path = str(shared / "data" / labels)
    found = open_labels(path, scene.georeference, scene.height, scene.width, codes, column=column, outside=0, all_touched=touched)
    got, objects = found.read(whole(scene.height, scene.width))
    frame = geopandas.read_file(path).to_crs(scene.georeference.crs)
    values = [codes.get(value, UNLABELLED) for value in frame[column]] if column else [1] * len(frame)
    transform = rasterio.Affine(*scene.georeference.transform)

    def burn(numbers: list[int]) -> np.ndarray:
        shapes = zip(frame.geometry, numbers, strict=True)
        burnt: np.ndarray = rasterio.features.rasterize(
            shapes, out_shape=got.shape, transform=transform, dtype="int32", all_touched=touched
        )
        return burnt

    numbers = burn(list(range(1, len(frame) + 1)))
    expected = np.array([0, *values])[numbers]
    assert objects is not None
    assert len(np.unique(expected)) >= 2
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(objects, np.where(expected == UNLABELLED, 0, numbers))
    for window in random_windows(40, scene.height, scene.width, 300):
        codes_there, objects_there = found.read(window)
        assert objects_there is not None
        np.testing.assert_array_equal(codes_there, got[window.slices])
        np.testing.assert_array_equal(objects_there, objects[window.slices])


def features(path: Path, transform: rasterio.Affine, count: int = 150) -> Path:
    """Polygons whose corners lie on corners and centres of pixels: where they fall is a tie."""
    rng = np.random.default_rng(0)
    shapes, kinds = [], []
    while len(shapes) < count:
        points = rng.integers(0, 2 * SIDE, 2) / 2 + rng.integers(-40, 40, (int(rng.integers(3, 7)), 2)) / 2
        hull = shapely.convex_hull(shapely.MultiPoint(points))
        if hull.geom_type == "Polygon":
            shapes.append(shapely.transform(hull, lambda xy: np.stack(transform @ (xy[:, 0], xy[:, 1]), 1)))
            kinds.append(("a", "b", "skip")[int(rng.integers(3))])
    geopandas.GeoDataFrame({"kind": kinds}, geometry=shapes, crs=UTM).to_file(path)
    return path


@pytest.fixture(scope="module", params=["upright", "rotated"])
def tied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Georeference]:
    transform = ROTATED if request.param == "rotated" else TRANSFORM
    return str(features(tmp_path_factory.mktemp("ties") / "ties.gpkg", transform)), placed(transform)


@settings(max_examples=60)
@given(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1), st.integers(1, 90), st.integers(1, 90), st.booleans())
def test_window_of_whole(tied: tuple[str, Georeference], row: int, col: int, height: int, width: int, touched: bool) -> None:
    path, place = tied
    labels = _opened(path, place, touched)
    codes, objects = labels.read(whole())
    window = Window.at((row, col), (min(height, SIDE - row), min(width, SIDE - col)))
    codes_there, objects_there = labels.read(window)
    assert objects is not None
    np.testing.assert_array_equal(codes_there, codes[window.slices])
    np.testing.assert_array_equal(objects_there, objects[window.slices])


_cache: dict[Any, Labels] = {}


def _opened(path: str, place: Georeference, touched: bool) -> Labels:
    key = path, place.transform, touched
    if key not in _cache:
        _cache[key] = open_labels(
            path, place, SIDE, SIDE, {"a": 0, "b": 1, "skip": UNLABELLED}, column="kind", outside=2, all_touched=touched
        )
    return _cache[key]


def test_later_features_on_top_and_ignored_ones(tmp_path: Path) -> None:
    """Painter's order; a feature to ignore hides what lies below; areas to ignore hide everything."""

    def box(left: int, top: int, right: int, bottom: int) -> Any:
        return shapely.transform(shapely.box(left, top, right, bottom), lambda xy: np.stack(TRANSFORM @ (xy[:, 0], xy[:, 1]), 1))

    frame = geopandas.GeoDataFrame(
        {"kind": ["a", "b", "skip", "odd"]},
        geometry=[box(0, 0, 10, 10), box(5, 5, 15, 15), box(8, 8, 12, 12), box(20, 20, 24, 24)],
        crs=UTM,
    )
    frame.to_file(tmp_path / "f.geojson")
    geopandas.GeoDataFrame(geometry=[box(0, 0, 2, 30)], crs=UTM).to_crs(4326).to_file(tmp_path / "ignore.gpkg")
    labels = open_labels(
        str(tmp_path / "f.geojson"),
        placed(),
        30,
        30,
        {"a": 0, "b": 1, "skip": UNLABELLED},
        column="kind",
        outside=2,
        ignore=str(tmp_path / "ignore.gpkg"),
    )
    codes, objects = labels.read(whole(30, 30))
    expected, numbers = np.full((30, 30), 2), np.zeros((30, 30), int)
    expected[0:10, 0:10], numbers[0:10, 0:10] = 0, 1
    expected[5:15, 5:15], numbers[5:15, 5:15] = 1, 2
    expected[8:12, 8:12], numbers[8:12, 8:12] = UNLABELLED, 0
    expected[20:24, 20:24] = UNLABELLED
    expected[:, :2] = UNLABELLED
    # The outline of what is ignored went through degrees, and all pixels that it touches count.
    np.testing.assert_array_equal(np.delete(codes, 2, axis=1), np.delete(expected, 2, axis=1))
    assert objects is not None
    np.testing.assert_array_equal(objects[:, 3:], numbers[:, 3:])


@pytest.mark.parametrize("ending", [".geojson", ".gpkg", ".parquet"])
def test_same_labels_from_every_format_and_crs(tmp_path: Path, ending: str) -> None:
    features(tmp_path / "utm.gpkg", TRANSFORM, 40)
    frame = geopandas.read_file(tmp_path / "utm.gpkg").to_crs(4326)
    other = tmp_path / f"other{ending}"
    frame.to_parquet(other) if ending == ".parquet" else frame.to_file(other)
    there, here = (
        open_labels(str(path), placed(), SIDE, SIDE, {"a": 0, "b": 1}, column="kind", outside=2).read(whole())[0]
        for path in (other, tmp_path / "utm.gpkg")
    )
    # Corners on pixel centres may fall to the other side, by digits of the coordinates.
    assert (here != there).mean() < 0.01
    assert {0, 1, 2, UNLABELLED} == {*np.unique(there).tolist()}


@pytest.mark.parametrize(
    "transform", [ROTATED, TRANSFORM * rasterio.Affine.scale(0.7), TRANSFORM * rasterio.Affine(1, 0, 250, 0, -1, 300)]
)
def test_raster_on_another_grid(write_raster: WriteRaster, transform: rasterio.Affine) -> None:
    """Each pixel has the label at its centre, also where 255 is a class; beyond the raster nothing is labelled."""
    values = patchy(SIDE, SIDE, 2) * np.uint8(255)
    labels = open_labels(str(write_raster(values)), placed(transform), 200, 240, {"0": 0, "255": 1})
    got = labels.read(whole(200, 240))[0]
    rows, cols = np.mgrid[:200, :240] + 0.5
    col, row = ~TRANSFORM @ (transform @ (cols, rows))
    inside = (col >= 0) & (col < SIDE) & (row >= 0) & (row < SIDE)
    expected = np.full(got.shape, UNLABELLED)
    expected[inside] = values[row[inside].astype(int), col[inside].astype(int)] // 255
    # Centres on borders of pixels, or of the raster, may fall to either side.
    sure = np.minimum(np.abs(col - np.rint(col)), np.abs(row - np.rint(row))) > 1e-3
    assert inside.mean() > 0.2
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(got[sure], expected[sure])
    for window in random_windows(20, 200, 240, 90):
        np.testing.assert_array_equal(labels.read(window)[0], got[window.slices])


def test_raster_codes(write_raster: WriteRaster) -> None:
    """Values are mapped; nodata and values without a code are not labelled, whatever the data type."""
    values = np.array([[0, 1, 2], [7, 300, -5]], np.int16)
    path = str(write_raster(np.kron(values, np.ones((40, 40), np.int16)), nodata=1))
    got = open_labels(path, placed(), 80, 120, {"0": 3, "1": 2, "2": 0, "300": 1}).read(whole(80, 120))[0]
    np.testing.assert_array_equal(got[::40, ::40], [[3, UNLABELLED, 0], [UNLABELLED, 1, UNLABELLED]])


def test_real_raster_in_another_crs(shared: Path) -> None:
    """A scene in the labels' own CRS reads what rasterio reads; windows of a real warped raster are cut from the whole."""
    mask = min((shared / "data" / "amazon_forest" / "val" / "masks").glob("*.tif"))
    with rasterio.open(mask) as dataset:
        values, transform, height, width = dataset.read(1), dataset.transform, dataset.height, dataset.width
        left, bottom, right, top = rasterio.warp.transform_bounds(dataset.crs, 3857, *dataset.bounds)
        same = Georeference(tuple(transform)[:6], dataset.crs.to_wkt())
    codes = {"0": 0, "1": 1}
    np.testing.assert_array_equal(
        open_labels(str(mask), same, height, width, codes).read(whole(height, width))[0],
        np.where(values <= 1, values, UNLABELLED),
    )
    mercator = Georeference(
        (((right - left) / 400), 0, left, 0, -(top - bottom) / 400, top), rasterio.crs.CRS.from_epsg(3857).to_wkt()
    )
    labels = open_labels(str(mask), mercator, 400, 400, codes)
    got = labels.read(whole(400, 400))[0]
    # Mercator keeps shares of so small a place.
    assert abs((got == 1).mean() - (values == 1).mean()) < 0.02
    for window in random_windows(20, 400, 400, 150):
        np.testing.assert_array_equal(labels.read(window)[0], got[window.slices])


def _wrong_reads(labels: Labels, truth: np.ndarray, seed: int) -> int:
    rng = np.random.default_rng(seed)
    wrong = 0
    for _ in range(150):
        row, col = rng.integers(0, len(truth) - 150, 2).tolist()
        window = Window.at((row, col), (150, 150))
        wrong += bool((labels.read(window)[0] != truth[window.slices]).any())
    return wrong


def test_forked_and_pickled_readers(write_raster: WriteRaster) -> None:
    """Processes forked from one that has read share no handle with it: theirs would read each other's bytes."""
    truth = np.random.default_rng(0).integers(0, 5, (2048, 2048)).astype(np.uint8)
    labels = open_labels(str(write_raster(truth)), placed(), 2048, 2048, {str(i): i for i in range(5)})
    assert _wrong_reads(labels, truth, 9) == 0
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()

    def work(seed: int) -> None:
        try:
            results.put(_wrong_reads(labels, truth, seed))
        except ReadError as error:
            results.put(str(error))

    workers = [context.Process(target=work, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=LIMIT_S) for _ in workers]
    for worker in workers:
        worker.join(LIMIT_S)
    assert found == [0, 0, 0]
    assert _wrong_reads(pickle.loads(pickle.dumps(labels)), truth, 9) == 0


@pytest.mark.parametrize("radius", [1, 3])
def test_without_borders(radius: int) -> None:
    """Pixels stay whose square of neighbours holds one class and one object; what is not labelled makes no border."""
    codes = patchy(60, 70, 3, size=6)
    codes[20:40, 30:50] = UNLABELLED
    objects = patchy(60, 70, 4, seed=5, size=6).astype(np.int32)
    expected = codes.copy()
    for row in range(60):
        for col in range(70):
            here = slice(max(0, row - radius), row + radius + 1), slice(max(0, col - radius), col + radius + 1)
            known = codes[here] != UNLABELLED
            if len(np.unique(codes[here][known])) > 1 or len(np.unique(objects[here][known])) > 1:
                expected[row, col] = UNLABELLED
    got = without_borders(codes, objects, radius)
    assert 0.05 < (got == UNLABELLED).mean() < 0.95
    np.testing.assert_array_equal(got, expected)


def test_refusals(tmp_path: Path, write_raster: WriteRaster) -> None:
    path = str(features(tmp_path / "f.gpkg", TRANSFORM, 5))
    with pytest.raises(ConfigError, match=r"no column 'class'; there are: kind"):
        open_labels(path, placed(), SIDE, SIDE, {"a": 0}, column="class")
    with pytest.raises(ConfigError, match="none of the values of 'kind' is a class"):
        open_labels(path, placed(), SIDE, SIDE, {"forest": 0}, column="kind")
    with pytest.raises(GeoreferenceError, match="no place on Earth"):
        open_labels(path, None, SIDE, SIDE, {"a": 0})
    (tmp_path / "broken.gpkg").write_text("no database")
    with pytest.raises(ReadError, match="can't be read"):
        open_labels(str(tmp_path / "broken.gpkg"), placed(), SIDE, SIDE, {"": 1})
    with pytest.raises(GeoreferenceError, match=r"64 x 64 pixels of labels for an image of 300 x 300"):
        open_labels(str(write_raster(np.zeros((64, 64), np.uint8))), None, SIDE, SIDE, {"0": 0})
    with pytest.raises(ReadError, match=r"none.tif: no such file"):
        open_labels(str(tmp_path / "none.tif"), placed(), SIDE, SIDE, {"0": 0})


def test_some_unknown_classes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(features(tmp_path / "f.gpkg", TRANSFORM, 20))
    open_labels(path, placed(), SIDE, SIDE, {"a": 0, "skip": 1}, column="kind")
    assert "not labelled: b (" in caplog.text


def compressed(counts: list[int]) -> str:
    """COCO's compressed form, written from its description."""
    text = []
    for k, count in enumerate(counts):
        value = count - counts[k - 2] if k > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            last = value == (-1 if bits & 16 else 0)
            text.append(chr(48 + (bits if last else bits | 32)))
            if last:
                break
    return "".join(text)


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000), st.floats(0, 1))
def test_runs(height: int, width: int, seed: int, share: float) -> None:
    """Compressed and plain runs give the mask they were made from."""
    mask = np.random.default_rng(seed).random((height, width)) < share
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    counts = [0, *counts] if flat[0] else counts
    assert decode_counts(compressed(counts)) == counts
    np.testing.assert_array_equal(decode_runs(counts, height, width), mask)


def test_published_runs() -> None:
    """Texts as other programs write them."""
    known = {"061M": [0, 6, 1, 3], "061K": [0, 6, 1, 1], "0610": [0, 6, 1, 6], "0PP1": [0, 1024]}
    assert {text: decode_counts(text) for text in known} == known
    for text, fault in (("0P", "end within"), ("0\x10", "character")):
        with pytest.raises(ValueError, match=fault):
            decode_counts(text)
    with pytest.raises(ValueError, match="runs of 6 px for an image of 2 x 2 px"):
        decode_runs([2, 4], 2, 2)


def coco_file(path: Path, **changes: Any) -> Path:
    runs = [3 * 30 + 5, 10, 20, 10, 30 * 40 - 3 * 30 - 45]
    document = {
        "images": [
            {"id": 7, "file_name": "a/one.png", "height": 30, "width": 40},
            {"id": 8, "file_name": "b/one.png", "height": 5, "width": 5},
        ],
        "categories": [{"id": 1, "name": "roof"}, {"id": 2, "name": "pool"}, {"id": 3, "name": "other"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 1,
                "segmentation": [[10, 10, 20, 10, 20, 20, 10, 20], [15, 15, 25, 15, 25, 25, 15, 25]],
            },
            {"id": 2, "image_id": 7, "category_id": 2, "segmentation": {"size": [30, 40], "counts": runs}},
            {
                "id": 3,
                "image_id": 7,
                "category_id": 1,
                "iscrowd": 1,
                "segmentation": {"size": [30, 40], "counts": compressed([600, 600])},
            },
            {"id": 4, "image_id": 7, "category_id": 3, "segmentation": [[30, 2, 35, 2, 35, 6, 30, 6]]},
        ],
    }
    path.write_text(json.dumps(document | changes))
    return path


def test_coco(tmp_path: Path) -> None:
    """Polygons as one object even where their parts overlap, runs of both kinds, crowds below, categories that are no class."""
    coco = Coco.read(str(coco_file(tmp_path / "coco.json")))
    labels, objects = coco.labels("images/a/one.png", {"roof": 1, "2": 2})
    expected, numbers = np.zeros((30, 40), int), np.zeros((30, 40), int)
    expected[:, 20:] = UNLABELLED
    for part in (slice(10, 20), slice(15, 25)):
        expected[part, part], numbers[part, part] = 1, 1
    expected[5:15, 3], numbers[5:15, 3] = 2, 2
    expected[5:15, 4], numbers[5:15, 4] = 2, 2
    expected[2:6, 30:35] = UNLABELLED
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(objects, numbers)
    assert coco.labels("b/one.png", {"roof": 1}, outside=UNLABELLED)[0].tolist() == [[UNLABELLED] * 5] * 5


def test_coco_refusals(tmp_path: Path) -> None:
    coco = Coco.read(str(coco_file(tmp_path / "coco.json")))
    with pytest.raises(ConfigError, match=r"no image is named three.png; there are a/one.png"):
        coco.labels("three.png", {"roof": 1})
    with pytest.raises(ConfigError, match=r"none of the categories is a class: roof, pool"):
        coco.labels("a/one.png", {"tree": 1})
    wrong = [{"id": 5, "image_id": 7, "category_id": 1, "segmentation": {"size": [30, 40], "counts": [1, 2]}}]
    with pytest.raises(ReadError, match=r"object 5 of a/one.png: runs of 3 px for an image of 30 x 40 px"):
        Coco.read(str(coco_file(tmp_path / "wrong.json", annotations=wrong))).labels("a/one.png", {"roof": 1})
    (tmp_path / "no.json").write_text("[1, 2]")
    with pytest.raises(ReadError, match="not COCO JSON"):
        Coco.read(str(tmp_path / "no.json"))


def test_voc_mask(tmp_path: Path) -> None:
    """A palette's indices are the classes, 255 is not labelled; the image and its mask make a source."""
    indices = patchy(40, 50, 21)
    indices[:3] = 255
    mask = Image.fromarray(indices, mode="L").convert("P")
    mask.putdata(indices.ravel().tolist())
    mask.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    mask.save(tmp_path / "mask.png")
    codes = mask_labels(str(tmp_path / "mask.png"), {str(i): i for i in range(21)})
    np.testing.assert_array_equal(codes, indices)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "image.jpg")
    image = LabelledImage(str(tmp_path / "image.jpg"), codes, Values(("red", "green", "blue"), "uint8"))
    np.testing.assert_array_equal(image.read(Window.of((40, 50))).labels, indices)
    with pytest.raises(ConfigError, match="none of the values is a class"):
        mask_labels(str(tmp_path / "mask.png"), {"77": 1})
    with pytest.raises(ConfigError, match="one band of 8 bits, not 3 of uint8"):
        mask_labels(str(tmp_path / "image.jpg"), {"0": 0})
