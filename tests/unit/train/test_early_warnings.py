"""Sentences before the first step: on data made so that each is due, and on data where none is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from scipy import stats
from support import UTM

from geoseg.errors import ConfigError
from geoseg.labels.rasters import RasterLabels
from geoseg.labels.vectors import VectorLabels
from geoseg.training.data.survey import survey
from geoseg.windows import Window
from pipeline.train.data import TrainingData, open_data
from pipeline.train.early_warnings import early_warnings, half_width
from pipeline.train.recipe import Recipe

SIDE = 64
CODES = np.indices((SIDE, SIDE)).sum(axis=0) // 16 % 2


@dataclass
class Site:
    """Eleven scenes side by side, ten metres a pixel, and their labels: three to train on, eight to validate on."""

    folder: Path
    classes: tuple[str, ...] = ("other", "forest")
    held: int = 8
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role, count in (("train", 3), ("val", self.held)):
            for k in range(count):
                rng = np.random.default_rng((k, len(role)))
                self.write(f"{role}/images/{role}{k}.tif", rng.integers(1, 255, (3, SIDE, SIDE)), self.left(role, k))
                self.write(f"{role}/masks/{role}{k}.tif", CODES[None], self.left(role, k))

    def left(self, role: str, k: int) -> float:
        return 500_000 + (k + 20 * (role == "val")) * 10 * SIDE

    def write(self, name: str, pixels: np.ndarray, left: float) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        transform = rasterio.Affine(10, 0, left, 0, -10, 5_400_000)
        height, width = pixels.shape[1:]
        shape = {"count": len(pixels), "height": height, "width": width, "dtype": "uint8"}
        with rasterio.open(path, "w", driver="GTiff", crs=UTM, transform=transform, **shape) as target:
            target.write(pixels.astype(np.uint8))

    def opened(self, **tables: Any) -> tuple[Recipe, TrainingData]:
        data = [
            {"images": [str(self.folder / role / "images")], "labels": str(self.folder / role / "masks"), "role": role}
            | tables.pop(role, {})
            for role in ("train", "val")
        ]
        recipe = Recipe.parse(
            {
                "name": "site",
                "description": "made by a test",
                "bands": ["red", "green", "blue"],
                "classes": [{"name": name, "color": "#e8d8a0"} for name in self.classes],
                "data": data,
                "sample": {"chip": 16},
            }
            | tables
        )
        return recipe, open_data(recipe)

    def warnings(self, **tables: Any) -> tuple[str, ...]:
        recipe, data = self.opened(**tables)
        whole = [(k, Window.of((s.height, s.width))) for k, s in enumerate(data.training)]
        training = survey(data.training, whole, len(recipe.classes), 16)
        return early_warnings(recipe, data, training, survey(data.validation, data.areas, len(recipe.classes), 16))


def vectors(path: Path, left: float, top: float = 5_399_900) -> Path:
    shape = shapely.box(left, top - 200, left + 200, top)
    geopandas.GeoDataFrame({"class": ["forest"]}, geometry=[shape], crs=UTM).to_file(path)
    return path


def test_nothing_is_said_of_data_as_it_should_be(tmp_path: Path) -> None:
    assert Site(tmp_path).warnings() == ()


def test_a_class_without_pixels_is_named_for_both_sides(tmp_path: Path) -> None:
    found = Site(tmp_path, classes=("other", "forest", "water")).warnings()
    assert [text.split(";")[0] for text in found] == [
        "no pixel to train on is of class water",
        "no pixel to validate on is of class water",
    ]


def test_validation_on_few_scenes_tells_how_wide_its_interval_is(tmp_path: Path) -> None:
    (text,) = Site(tmp_path / "three", held=3).warnings()
    width = stats.t.interval(0.95, 2, scale=0.1 / np.sqrt(3))[1]
    assert (
        f"is on 3 scenes: where IoU differs by 0.1 from one to the next, the 95 % interval of their mean is ± {width:.2f}" in text
    )
    (text,) = Site(tmp_path / "one", held=1).warnings()
    assert text.startswith("validation is on a single scene, so that its figures have no interval at all")
    assert half_width(6) > 0.1 > half_width(7)


def test_labels_that_miss_scenes_are_told_and_refused_where_they_miss_all(tmp_path: Path) -> None:
    site = Site(tmp_path)
    here = {"labels": str(vectors(tmp_path / "here.gpkg", site.left("train", 1) + 100)), "column": "class"}
    found = site.warnings(train=here | {"outside": "other"})
    assert len(found) == 1
    assert "no feature lies on 2 of 3 images, all of which is then the class of data.outside: train0, train2" in found[0]
    found = site.warnings(train=here)
    assert found[0].startswith("data.labels: 2 of 3 scenes to train on have no labelled pixel there: train0, train2;")
    away = {"labels": str(vectors(tmp_path / "away.gpkg", 900_000)), "column": "class", "outside": "other"}
    with pytest.raises(ConfigError, match="none of its 1 features lies on any of 3 images, the first of which is train0"):
        site.warnings(train=away)


def test_label_rasters_that_cover_a_part_tell_the_share(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write("train/masks/train1.tif", CODES[None, :, : SIDE // 4], site.left("train", 1))
    (text,) = site.warnings()
    assert text.startswith("train1: its labels ")
    assert "cover 25.0 % of it" in text


def test_a_class_that_by_chance_no_chip_shows_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path, classes=("other", "forest", "well"))
    rare = CODES[None].copy()
    rare[0, 3, 3] = 2
    for k in range(8):
        site.write(f"val/masks/val{k}.tif", rare, site.left("val", k))
    site.write("train/masks/train0.tif", rare, site.left("train", 0))
    (text,) = site.warnings(loop={"steps": 4}, sample={"chip": 16, "batch": 2})
    assert text.startswith("class well is in 1 of 48 places of a chip's size, and the training draws 8 chips: 0.17 are")
    assert site.warnings(loop={"steps": 4}, sample={"chip": 16, "batch": 2, "by": "class"}) == ()
    assert site.warnings(loop={"steps": 40}, sample={"chip": 16, "batch": 2}) == ()


def test_the_same_image_at_another_place_on_the_other_side_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with rasterio.open(tmp_path / "train/images/train2.tif") as copied:
        site.write("val/images/val4.tif", copied.read(), site.left("val", 4))
    assert site.warnings() == ("val4, which is validated on, has the pixels of train2, which is trained on; remove one of them",)


def test_coverage_is_that_of_what_is_read(tmp_path: Path) -> None:
    site = Site(tmp_path)
    # Half of the scene's pixels to the left, and as far up, in pixels of twice the size.
    transform = rasterio.Affine(20, 0, site.left("train", 0) - 320, 0, -20, 5_400_320)
    shape = {"count": 1, "height": 32, "width": 32, "dtype": "uint8"}
    with rasterio.open(tmp_path / "moved.tif", "w", driver="GTiff", crs=UTM, transform=transform, **shape) as target:
        target.write(np.ones((1, 32, 32), np.uint8))
    _, data = site.opened()
    place = data.training[0].georeference
    labels = RasterLabels(str(tmp_path / "moved.tif"), place, SIDE, SIDE, {"1": 1})
    codes, _ = labels.read(Window.of((SIDE, SIDE)))
    assert labels.coverage() == pytest.approx((codes == 1).mean()) == 0.25
    assert place is not None
    found = VectorLabels(
        str(vectors(tmp_path / "one.gpkg", 500_100)), place, SIDE, SIDE, {"": 1}, None, 255, None, all_touched=False
    )
    assert found.on_scene() == (1, 1)
