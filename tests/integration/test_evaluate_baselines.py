"""``geoseg evaluate --baseline``: classical methods on the pixels of the maps, fitted on other scenes, in one table."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from scipy import ndimage
from support import call_cli

import geoseg
from geoseg.baselines.catalogue import fit_baseline
from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.training.data.chips import Chip
from geoseg.windows import Window
from pipeline.evaluate.classical_table import row_of, verdict

RGB = ("red", "green", "blue")
NAMES = "0=other,1=forest"
RECIPE = """
name = "forest"
description = "made by a test"
bands = ["red", "green", "blue"]

[[classes]]
name = "other"
color = "#e8d8a0"

[[classes]]
name = "forest"
color = "#1a7837"

[[data]]
images = ["{data}/{folder}/images"]
labels = "{data}/{folder}/masks"
{more}

[split]
val = 0.3
"""


@dataclass
class Whole:
    """A scene read by rasterio, as a source; windows past it have no data."""

    name: str
    image: np.ndarray
    labels: np.ndarray

    @property
    def height(self) -> int:
        return int(self.labels.shape[0])

    @property
    def width(self) -> int:
        return int(self.labels.shape[1])

    def read(self, window: Window) -> Chip:
        pad = [(m, m) for m in (window.height, window.width)]
        rows, cols = window.row_off + window.height, window.col_off + window.width
        here = slice(rows, rows + window.height), slice(cols, cols + window.width)
        image, labels = np.pad(self.image, [(0, 0), *pad]), np.pad(self.labels, pad, constant_values=NODATA)
        valid = np.pad(np.ones(self.labels.shape, bool), pad)
        return Chip(image[(slice(None), *here)].astype(np.float32), valid[here], labels[here])


@pytest.fixture(scope="module")
def place(forest_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Whole], list[np.ndarray]]:
    """Maps that are partly wrong, partly silent, their truth and their images; the scenes, and the codes of the maps."""
    folder, scenes, maps = tmp_path_factory.mktemp("beside"), [], []
    rng = np.random.default_rng(0)
    for name in ("maps", "truth", "images"):
        (folder / name).mkdir()
    for path in sorted((forest_data / "val" / "masks").iterdir())[:3]:
        image = forest_data / "val" / "images" / path.name
        with rasterio.open(path) as truth, rasterio.open(image) as pixels:
            labels, profile = truth.read(1), truth.profile
            scenes.append(Whole(path.stem, pixels.read(), labels))
        noise = ndimage.gaussian_filter(rng.normal(size=labels.shape), 4)
        found = np.where(noise > np.quantile(noise, 0.97), 1 - labels, labels).astype(np.uint8)
        found[40:60, 100:200], found[:10] = NOT_ANALYSED, NODATA
        maps.append(found)
        with rasterio.open(folder / "maps" / path.name, "w", **(profile | {"nodata": NODATA})) as target:
            target.write(found, 1)
            # Codes of this program: 254 is not analysed.
            target.update_tags(geoseg_scene=path.stem)
        (folder / "truth" / path.name).symlink_to(path)
        (folder / "images" / path.name).symlink_to(image)
    return folder, scenes, maps


def evaluated(folder: Path, out: Path, *more: object, maps: object = None) -> dict[str, Any]:
    given = ["evaluate", "--pred", maps or folder / "maps", "--truth", folder / "truth", "--names", NAMES, "--boundary", "none"]
    done = call_cli([*given, "--allow-unpaired", "--out", out, *more])
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return document | {"said": done.stdout}


def by_hand(method: str, training: Sequence[Whole], scene: Whole, mapped: np.ndarray) -> np.ndarray:
    """Counts of a method on a whole scene, where the map has a class."""
    fitted = fit_baseline(method, training, RGB, np.random.default_rng(0))
    codes = fitted.predict(scene.image.astype(np.float32), np.ones(mapped.shape, bool))
    known = mapped < 2
    return ConfusionMatrix.tally(scene.labels[known], codes[known], 2).counts


def test_each_scene_is_judged_by_what_was_fitted_on_the_others(
    place: tuple[Path, list[Whole], list[np.ndarray]], tmp_path: Path
) -> None:
    folder, scenes, maps = place
    document = evaluated(folder, tmp_path / "out", "--baseline", folder / "images", "--baseline-methods", "histogram,logistic")
    table = document["baselines"]
    rows = {row["method"]: row for row in table["rows"]}
    for method in ("histogram", "logistic"):
        counts = [by_hand(method, [s for s in scenes if s is not scene], scene, m) for scene, m in zip(scenes, maps, strict=True)]
        total = ConfusionMatrix(sum(counts[1:], counts[0]))
        assert rows[method]["miou"] == pytest.approx(total.miou())
        assert list(rows[method]["iou"].values()) == pytest.approx(total.iou().tolist())
    # The same pixels for all, and of the maps the figures that the evaluation has.
    assert {row["pixels"] for row in rows.values()} == {document["coverage"]["compared"]}
    assert rows["the maps"]["miou"] == document["figures"]["miou"]
    assert rows["the maps"]["miou_95"] == document["intervals_95"]["miou"]
    assert [row["miou"] for row in table["rows"]] == sorted((row["miou"] for row in table["rows"]), reverse=True)
    assert "in 3 groups in turn" in table["fitted_on"]
    assert table["verdict"] in document["said"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Classical methods" in page
    assert "random-forest" not in page
    with (tmp_path / "out" / "baselines.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == [row["method"] for row in table["rows"]]
    # The same from Python; and nothing of it where it is not asked for.
    given = {"names": {0: "other", 1: "forest"}, "boundary": [], "allow_unpaired": True}
    found = geoseg.evaluate(
        folder / "maps", folder / "truth", baseline=folder / "images", baseline_methods=["histogram"], **given
    )
    as_json = json.loads(json.dumps(found.document["baselines"]))
    assert [row for row in as_json["rows"] if row["method"] == "histogram"] == [rows["histogram"]]
    assert "baselines" not in geoseg.evaluate(folder / "maps", folder / "truth", **given).document


def test_scenes_to_fit_on_come_as_images_with_labels_or_as_a_recipe(
    place: tuple[Path, list[Whole], list[np.ndarray]], forest_data: Path, tmp_path: Path
) -> None:
    folder, *_ = place
    more = ("--baseline", folder / "images", "--baseline-methods", "otsu")
    (tmp_path / "all.toml").write_text(
        RECIPE.format(data=forest_data, folder="train", more='role = "train"\n').replace(
            "[split]",
            f'[[data]]\nimages = ["{forest_data}/val/images"]\nlabels = "{forest_data}/val/masks"\nrole = "val"\n[split]',
        )
    )
    pair = f"{forest_data}/train/images={forest_data}/train/masks"
    one = evaluated(folder, tmp_path / "one", *more, "--baseline-train", pair)["baselines"]
    other = evaluated(folder, tmp_path / "other", *more, "--baseline-train", tmp_path / "all.toml")["baselines"]
    assert one == other
    more = ("--baseline", folder / "images", "--baseline-methods", "otsu,logistic", "--names", f"{NAMES},2=water")
    third = evaluated(folder, tmp_path / "third", *more, "--baseline-train", pair)["baselines"]
    assert [row["method"] for row in third["rows"]] == ["the maps", "logistic"]
    assert third["skipped"] == {"otsu": "baseline otsu: it tells 2 classes apart, not 3; use logistic or random-forest"}
    assert one["fitted_on"].startswith(f"{len(list((forest_data / 'train' / 'images').iterdir()))} other scenes: ")


def test_what_can_not_be_honest_or_can_not_work_is_refused(
    place: tuple[Path, list[Whole], list[np.ndarray]], forest_data: Path, tmp_path: Path
) -> None:
    folder, scenes, _ = place
    (tmp_path / "leak.toml").write_text(RECIPE.format(data=forest_data, folder="val", more=""))
    single = folder / "maps" / f"{scenes[0].name}.tif"
    (tmp_path / "small").mkdir()
    with rasterio.open(folder / "images" / single.name) as source:
        profile = source.profile | {"height": 100, "width": 100}
        pixels = source.read(window=((0, 100), (0, 100)))
    with rasterio.open(tmp_path / "small" / single.name, "w", **profile) as target:
        target.write(pixels)
    images = ("--baseline", folder / "images")
    for more, words in (
        ((*images, "--baseline-train", tmp_path / "leak.toml"), "--baseline-train: .* overlaps"),
        (images, "there is no scene elsewhere to fit on, and no method is judged on what it was fitted on"),
        (("--baseline", tmp_path / "small"), "100 x 100 px, and its map has"),
        (("--baseline", forest_data / "train" / "images"), f"no image is named {scenes[0].name}"),
        ((*images, "--baseline-methods", "oracle"), "'oracle' is not one of otsu"),
        ((*images, "--baseline-bands", "red,nir"), "--baseline-bands: no band of the images is nir; there are red, green, blue"),
        ((*images, "--baseline-train", "images"), "neither IMAGES=LABELS nor a recipe"),
        (("--baseline-methods", "otsu"), "--baseline: give the images"),
    ):
        given = ["evaluate", "--pred", single, "--truth", folder / "truth", "--names", NAMES, "--allow-unpaired"]
        done = call_cli([*given, "--out", tmp_path / "out", *more])
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr

        assert re.search(words, done.stderr), done.stderr
        assert not (tmp_path / "out").exists()


def test_a_method_that_wins_is_said_to_win() -> None:
    def row(name: str, right: int, *, is_map: bool = False) -> Any:
        return row_of(name, (), ConfusionMatrix(np.array([[right, 10], [10, right]])), None, ("a", "b"), is_map=is_map)

    wins = verdict([row("otsu", 90), row("the maps", 80, is_map=True), row("canny", 70)])
    assert wins.startswith("A classical method is at least as good as the maps: otsu has a mean IoU of 0.8182 against 0.8000")
    loses = verdict([row("the maps", 90, is_map=True), row("otsu", 80), row("canny", 70)])
    assert loses.startswith("The maps are better than all 2 classical methods: the best, otsu, has a mean IoU of 0.8000")
