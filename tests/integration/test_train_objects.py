"""``geoseg train`` with COCO JSON of any domain: plates of food, whose pieces are told apart, crowds left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import run_cli

pytest.importorskip("lightning")

from geoseg.models.model_folder import load_model
from pipeline.train.data import open_data
from pipeline.train.object_thresholds import judge_objects
from pipeline.train.recipe import Recipe

SIDE = 96
RECIPE = """
name = "food"
description = "made by a test"
bands = ["red", "green", "blue"]
value_range = [0, 255]

[[classes]]
name = "table"
color = "#e8d8a0"
background = true

[[classes]]
name = "tomato"
color = "#d7301f"

[[classes]]
name = "rice"
color = "#66ccee"

[[data]]
images = ["{folder}"]
labels = "{folder}/food.json"
outside = "table"
plain = true

[split]
val = 0.25

[sample]
chip = 96
batch = 4

[calibrate]
method = "temperature"
"""
KINDS = {
    "watershed": """
[network]
architecture = "unet"
encoder = "resnet18"
parameters = {{ encoder_depth = 3, decoder_channels = [32, 16, 16] }}
[instances]
kind = "watershed"
boundary = 3.0
distance = 8.0
[tasks]
weighting = "uniform"
[loop]
steps = 50
check = 50
rate = 3e-3
choose = "last"
""",
    "regions": """
[network]
architecture = "mask-rcnn"
encoder = "resnet18"
parameters = {{ width = 32, hidden = 64, regions = 64, proposals = 100, detections = 30 }}
[instances]
kind = "regions"
[loop]
steps = 80
check = 80
rate = 2e-3
choose = "last"
""",
}


def plate(rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[tuple[int, NDArray[np.bool_]]], NDArray[np.bool_]]:
    """An image, its pieces with their category, and a heap of peas that nobody has counted."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE, 3), (150, 120, 90), np.float64)
    image[np.hypot(y - 48, x - 48) < 46] = 235
    pieces: list[tuple[int, NDArray[np.bool_]]] = []
    heap = np.hypot((y - rng.integers(15, 30)) / 1.0, (x - rng.integers(30, 66)) / 1.6) < 8
    taken = heap.copy()
    image[heap] = (90, 170, 60)
    while len(pieces) < 5:
        row, col, kind = *rng.integers(16, 80, 2).tolist(), int(rng.integers(1, 3))
        size = rng.uniform(7, 11), rng.uniform(7, 11)
        piece = ((y - row) / size[0]) ** 2 + ((x - col) / size[1]) ** 2 < 1
        if not (piece & taken).any():
            taken |= piece
            pieces.append((kind, piece))
            image[piece] = (200, 40, 30) if kind == 1 else (250, 245, 190)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8), pieces, heap


def runs_of(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Uncompressed runs of COCO."""
    flat = mask.ravel(order="F")
    return {"size": list(mask.shape), "counts": np.diff(np.flatnonzero(np.diff(flat)) + 1, prepend=0, append=len(flat)).tolist()}


@pytest.fixture(scope="module")
def food(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("food")
    rng = np.random.default_rng(4)
    images, annotations = [], []
    for k in range(16):
        image, pieces, heap = plate(rng)
        Image.fromarray(image).save(folder / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "height": SIDE, "width": SIDE})
        for category, mask, crowd in [*((c, m, 0) for c, m in pieces), (1, heap, 1)]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": k,
                    "category_id": category,
                    "iscrowd": crowd,
                    "segmentation": runs_of(mask),
                }
            )
    categories = [{"id": 1, "name": "tomato"}, {"id": 2, "name": "rice"}]
    (folder / "food.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["watershed", "regions"])
def test_pieces_of_food_are_told_apart(food: Path, tmp_path: Path, kind: str) -> None:
    recipe = tmp_path / "train.toml"
    recipe.write_text((RECIPE + KINDS[kind]).format(folder=food))
    done = run_cli(["train", recipe, "--out", tmp_path / "model"])
    assert done.returncode == 0, done.stderr
    model = load_model(str(tmp_path / "model"))
    assert model.card.object_classes == (1, 2)
    facts = model.card.instances
    assert facts is not None
    assert facts.kind == kind
    # A detector paints its objects one by one, which has no graph of fixed shapes; the card says which engines there are.
    assert (model.onnx is not None) == (kind == "watershed")
    report = json.loads((tmp_path / "model" / "training" / "validation.json").read_text())
    assert report["objects"]["truth"] == 20
    assert report["objects"]["f1"] > 0.7
    assert report["objects"]["cross_fitted"]
    # Its thresholds are of the probabilities that maps have, which are calibrated.
    assert model.card.calibration is not None
    data = open_data(Recipe.read(recipe))
    # What the card says of sure objects hides none of those that are tried.
    surest = replace(model, card=model.card.model_copy(update={"instances": facts.model_copy(update={"score": 0.9})}))
    again, figures = judge_objects(surest, data, data.areas, "auto")
    assert again.card == model.card
    assert figures.to_json() == report["objects"]
