"""Average precision and panoptic quality against libraries that measure them."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.evaluation.instances import COCO_IOUS, Matches, Overlaps, PrecisionTally, match
from geoseg.evaluation.panoptic import PanopticTally
from geoseg.instances.masks import Masks


def blobs(rng: np.random.Generator, shape: tuple[int, int], count: int) -> NDArray[np.int32]:
    """Numbered rectangles, some cut by others; all of them are there."""
    labels = np.zeros(shape, np.int32)
    for number in range(1, count + 1):
        height, width = rng.integers(4, 16, 2)
        row, col = rng.integers(0, shape[0] - height), rng.integers(0, shape[1] - width)
        labels[row : row + height, col : col + width] = number
    names = np.unique(labels[labels > 0])
    table = np.zeros(count + 1, np.int32)
    table[names] = np.arange(1, len(names) + 1)
    return table[labels]


def seen(rng: np.random.Generator, truth: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The same a little moved, with some missing, some more, and scores, several of which are equal."""
    found = np.roll(truth, rng.integers(-2, 3, 2), (0, 1))
    for number in rng.choice(np.arange(1, truth.max() + 1), truth.max() // 5, replace=False):
        found[found == number] = 0
    more = blobs(rng, truth.shape, 8)
    found = np.where((more > 0) & (found == 0), more + found.max(), found)
    names, found = np.unique(found, return_inverse=True)
    assert names[0] == 0
    return found.reshape(truth.shape).astype(np.int32), np.round(rng.uniform(0, 1, len(names) - 1), 1).astype(np.float32)


def overlaps_of(found: NDArray[np.int32], truth: NDArray[np.int32]) -> Overlaps:
    """The overlaps of two rasters of numbers."""
    return Overlaps.of_masks(Masks.of_labels(found, int(found.max())), Masks.of_labels(truth, int(truth.max())))


def coco(images: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]]) -> NDArray[np.float64]:
    """(T,) average precision, then (T,) recall, by the library."""
    library = pytest.importorskip("faster_coco_eval")

    def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
        found: dict[str, Any] = library.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return found

    truths, results = [], []
    for k, (truth, found, score) in enumerate(images):
        for labels, entries in ((truth, truths), (found, results)):
            for number in range(1, labels.max() + 1):
                mask = labels == number
                entry = {"image_id": k + 1, "category_id": 1, "segmentation": run_lengths(mask), "area": int(mask.sum())}
                if entries is truths:
                    rows, cols = np.nonzero(mask)
                    box = [int(cols.min()), int(rows.min()), int(np.ptp(cols)) + 1, int(np.ptp(rows)) + 1]
                    entry |= {"id": len(entries) + 1, "iscrowd": 0, "bbox": box}
                else:
                    entry["score"] = float(score[number - 1])
                entries.append(entry)
    sizes = [{"id": k + 1, "height": t.shape[0], "width": t.shape[1]} for k, (t, _, _) in enumerate(images)]
    with contextlib.redirect_stdout(io.StringIO()):
        data = library.COCO({"images": sizes, "annotations": truths, "categories": [{"id": 1, "name": "blob"}]})
        judge = library.COCOeval_faster(data, data.loadRes(results), "segm")
        judge.params.maxDets = [1, 10, 1000]
        judge.evaluate()
        judge.accumulate()
    precision, recall = judge.eval["precision"], judge.eval["recall"]
    return np.concatenate([precision[:, :, 0, 0, -1].mean(axis=1), recall[:, 0, 0, -1]])


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_coco(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, tally = [], PrecisionTally()
    for _ in range(4):
        truth = blobs(rng, (120, 140), 30)
        found, score = seen(rng, truth)
        images.append((truth, found, score))
        tally.add(overlaps_of(found, truth), score)
    expected = coco(images)
    assert tally.precision() == pytest.approx(expected[: len(COCO_IOUS)], abs=1e-9)
    assert tally.recall() == pytest.approx(expected[len(COCO_IOUS) :], abs=1e-9)
    assert 0.1 < tally.precision()[0] < 0.95


def test_panoptic_quality_is_that_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("torchmetrics.functional.detection")
    rng = np.random.default_rng(5)
    total, maps = PanopticTally.zeros(3), []
    parts: list[Matches] = []
    for _ in range(3):
        truth = blobs(rng, (90, 100), 20)
        found, score = seen(rng, truth)
        ground = (np.arange(100) + 0 * truth) > rng.integers(30, 60)
        classes = [np.where(objects > 0, 2, np.roll(ground, shift, 1)) for objects, shift in ((found, 3), (truth, 0))]
        known = rng.uniform(size=truth.shape) > 0.02
        known[:25, :25] = False
        total += PanopticTally.of(3, (classes[0], found), (classes[1], truth), known)
        maps.append(np.stack([classes[0], found, np.where(known, classes[1], 9), np.where(known, truth, 0)], axis=-1))
        parts.append(match(overlaps_of(found, truth), score))
    image = torch.from_numpy(np.stack(maps).astype(np.int64))
    expected = library.panoptic_quality(
        image[..., :2],
        image[..., 2:],
        things={2},
        stuffs={0, 1},
        allow_unknown_preds_category=True,
        return_sq_and_rq=True,
        return_per_class=True,
    ).numpy()
    measured = np.stack([total.quality, total.segmentation, total.recognition], axis=1)
    # The library puts things first.
    assert measured[[2, 0, 1]] == pytest.approx(expected)
    assert (measured[:2] > 0.5).all()
    pooled = Matches.pooled(parts)
    assert pooled.panoptic_quality == pytest.approx(pooled.f1 * pooled.segmentation_quality)
