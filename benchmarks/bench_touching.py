"""Cells that touch: what border weights, distances with a watershed, and Mask R-CNN each tell apart, as a table in Markdown.

    python benchmarks/imagenet_weights.py
    python benchmarks/bench_touching.py

A stand-in for the cells of glass-grown cultures (DIC-HeLa) of the ISBI cell tracking challenge, where half of a cell's rim
touches others and shows little: discs of uneven radius, packed until they flatten each other, textured inside, lit from one
side, with a dark line along a part of what they share. 12 images teach, 4 choose thresholds, 6 judge. All networks are trained as
often, from the same weights of the same encoder. The first two rows call the connected regions of their class objects.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from bench_accuracy import WORK, Row, trained
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.evaluation.instances import Matches, Overlaps, PrecisionTally, match
from geoseg.inference.decision import Decision
from geoseg.instances.finding import found_objects
from geoseg.instances.masks import Masks
from geoseg.labels.coco import Coco
from geoseg.models.model_folder import load_model
from geoseg.training.data.labelled import LabelledImage, Values
from geoseg.training.validation import judge, open_for_chips

FOLDER = WORK / "touching"
SIDE, CELLS = 256, 55
PARTS = {"train": range(12), "val": range(12, 16), "test": range(16, 22)}
DETECTOR = {
    "network.architecture": "mask-rcnn",
    "instances.kind": "regions",
    "network.parameters": {"width": 128, "hidden": 512, "regions": 128, "proposals": 500, "detections": 150},
}
ROWS: dict[str, dict[str, Any]] = {
    "classes": {"instances.kind": "none"},
    "classes, border weights": {"instances.kind": "none", "loss.border": 10.0},
    "boundaries, distances, watershed": {},
    "Mask R-CNN": DETECTOR,
}


def cells(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """An image (h, w), and the numbers of its cells, 0 for the glass."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    centers, best = rng.uniform(0, SIDE, (CELLS, 2)), np.full((SIDE, SIDE), np.inf)
    for _ in range(3):
        # Each moves to the middle of what is nearest to it, so that they are packed evenly.
        nearest = ((rows[..., None] - centers[:, 0]) ** 2 + (cols[..., None] - centers[:, 1]) ** 2).argmin(axis=-1)
        centers = np.array(ndimage.center_of_mass(np.ones_like(nearest), nearest, np.arange(CELLS)))
    labels = np.zeros((SIDE, SIDE), np.int32)
    for number, (row, col) in enumerate(centers[rng.permutation(CELLS)[: int(CELLS * 0.8)]], 1):
        angle = np.arctan2(rows - row, cols - col)
        waves = sum(rng.normal(0, 0.09) * np.cos(k * angle + rng.uniform(0, 7)) for k in (1, 2, 3))
        depth = np.hypot(rows - row, cols - col) - rng.uniform(17, 22) * (1 + waves)
        nearer = (depth < 0) & (depth < best)
        labels[nearer], best[nearer] = number, depth[nearer]
    inside = labels > 0
    grain = ndimage.gaussian_filter(rng.normal(size=labels.shape), 1.5) * 60
    light = ndimage.sobel(ndimage.gaussian_filter(np.maximum(-best, 0) * inside, 2.0), axis=1) * 1.5
    rim = inside & (ndimage.grey_dilation(labels, 3) != labels)
    shows = ndimage.gaussian_filter(rng.normal(size=labels.shape), 6) > 0
    image = 110 + np.where(inside, 12 + grain + light, grain * 0.25) - 22.0 * ndimage.gaussian_filter((rim & shows) * 1.0, 0.7)
    return np.clip(image + rng.normal(0, 4, labels.shape), 0, 255).astype(np.uint8), labels


def write(part: str) -> None:
    """The images of a part as TIFF, and their cells as COCO JSON, in runs."""
    folder = FOLDER / part
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for seed in PARTS[part]:
        image, labels = cells(seed)
        name = f"{seed}.tif"
        with rasterio.open(folder / name, "w", driver="GTiff", height=SIDE, width=SIDE, count=1, dtype="uint8") as file:
            file.write(image, 1)
        images.append({"id": seed, "file_name": name, "height": SIDE, "width": SIDE})
        for number in np.unique(labels[labels > 0]).tolist():
            flat = (labels == number).ravel(order="F")
            runs = np.diff(np.flatnonzero(np.diff(flat)) + 1, prepend=0, append=len(flat)).tolist()
            counts = [0, *runs] if flat[0] else runs
            segmentation = {"size": [SIDE, SIDE], "counts": counts}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": seed,
                    "category_id": 1,
                    "iscrowd": 0,
                    "segmentation": segmentation,
                }
            )
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (folder / "cells.json").write_text(json.dumps(document), encoding="utf-8")


def objects_of(part: Any, card: Any) -> tuple[Masks, NDArray[np.floating]]:
    """What a model finds, and how sure it is."""
    probabilities = part.probabilities(Decision.of(card))
    if card.instances is None:
        labels, count = ndimage.label(probabilities.argmax(axis=0) == 1)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        labels, large = np.where(sizes[labels] >= 40, labels, 0), np.flatnonzero(sizes[1:] >= 40) + 1
        score = np.asarray(ndimage.mean(probabilities[1], labels, large)) if len(large) else np.empty(0)
        return Masks.of_labels(np.searchsorted(large, labels).astype(np.int32) + (labels > 0), len(large)), score
    channels = np.concatenate([part.scores, part.further])
    labels, codes, score, _ = found_objects(channels, probabilities, part.valid, card)
    return Masks.of_labels(labels, len(codes)), score


def judged(model: Path) -> dict[str, float]:
    """Figures on the images that judge."""
    loaded = load_model(str(model))
    coco = Coco.read(str(FOLDER / "test" / "cells.json"))
    sources, truths = [], []
    for seed in PARTS["test"]:
        path = str(FOLDER / "test" / f"{seed}.tif")
        labels, objects = coco.labels(path, {"cell": 1})
        sources.append(LabelledImage(path, labels, Values(("gray",), "uint8"), objects=objects))
        truths.append(objects)
    tally, parts = PrecisionTally(), []
    merged = 0
    for part in judge(open_for_chips(loaded), loaded.card, sources):
        found, score = objects_of(part, loaded.card)
        objects = truths[part.source]
        truth = Masks.of_labels(objects, int(objects.max()))
        overlaps = Overlaps.of_masks(found, truth)
        tally.add(overlaps, score)
        parts.append(match(overlaps, score))
        merged += int((np.bincount(overlaps.first[overlaps.covered > 0.5], minlength=len(overlaps.found)) > 1).sum())
    whole, precision = Matches.pooled(parts), tally.precision()
    return {
        "F1": whole.f1,
        "AP50": float(precision[0]),
        "AP": float(precision.mean()),
        "PQ": whole.panoptic_quality,
        "merged": merged,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", dest="extra", action="append", default=[], help="change a value of every recipe")
    args = parser.parse_args()
    for part in PARTS:
        write(part)
    lines: list[str] = []
    for name, changes in ROWS.items():
        out = trained("touching", Row(name, "touching", changes), 0, args.extra)
        found = judged(out)
        if not lines:
            lines = ["| cells | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
        lines.append(f"| {name} | " + " | ".join(f"{v}" if isinstance(v, int) else f"{v:.3f}" for v in found.values()) + " |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
