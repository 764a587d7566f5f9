"""R-CNN, Fast R-CNN, Faster R-CNN and Mask R-CNN on the same buildings: AP of boxes and time an image, in Markdown.

    python benchmarks/imagenet_weights.py
    python benchmarks/bench_accuracy.py joplin
    python benchmarks/bench_lineage.py

How detectors came to be, one encoder for all (EfficientNet-Lite0 from ImageNet): the left half of Joplin teaches, the right half
judges, both in images of 256 x 256 pixels.

- R-CNN (Girshick et al. 2014, arXiv:1311.2524): each proposal of selective search (Uijlings et al. 2013) is warped to 64 x 64
  pixels and passes through the frozen encoder; a linear SVM says what it is, a ridge regression moves its box.
- Fast R-CNN (Girshick 2015, arXiv:1504.08083): the encoder sees the image once; proposals pool from its features (RoIAlign in
  place of RoIPool), two layers say what each is and move it; all of it is trained together.
- Faster R-CNN (Ren et al. 2015, arXiv:1506.01497) makes the proposals by a network, too, and Mask R-CNN (He et al. 2017,
  arXiv:1703.06870) adds masks: those of geoseg, with a feature pyramid; see ``benchmarks/recipes``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from bench_accuracy import DATA, ROOT, TABLES, WORK, Row, prepare_joplin, trained
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC
from torch import Tensor, nn
from torchvision.ops import box_iou, nms, roi_align

from geoseg.evaluation.instances import Overlaps, PrecisionTally
from geoseg.inference.torch_engine import load_network
from geoseg.labels.labels import open_labels
from geoseg.models.model_folder import load_model
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.networks.detectors import PaintedObjects
from geoseg.models.networks.pretrained import load_weights
from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window

SIDE, WARPED, STRIDE = 256, 64, 16
WEIGHTS = ROOT / "build" / "weights" / "efficientnet_lite0.safetensors"
PIXELS = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * 255, torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * 255
LEAST_PX = 40

Boxes = NDArray[np.float64]
Found = tuple[Boxes, NDArray[np.float64]]
Detector = Callable[[NDArray[np.uint8]], Found]


def images_of(half: str) -> list[tuple[NDArray[np.uint8], Boxes]]:
    """Images (h, w, 3) of a half, and the boxes of their buildings: left, top, right, bottom."""
    scene = open_scene([str(WORK / "joplin" / f"{half}.tif")], half, OpenOptions())
    labels = open_labels(
        str(DATA / "joplin_damage" / "pre_buildings.geojson"), scene.georeference, scene.height, scene.width, {"": 1}, outside=0
    )
    found = []
    with SceneReader(scene, (0, 1, 2)) as reader:
        for window in Window.of((scene.height, scene.width)).parts(SIDE):
            _, objects = labels.read(window)
            assert objects is not None
            boxes = [
                box_of(objects == number) for number in np.unique(objects[objects > 0]) if (objects == number).sum() >= LEAST_PX
            ]
            found.append(
                (np.ascontiguousarray(reader.read(window).data.transpose(1, 2, 0)), np.array(boxes, np.float64).reshape(-1, 4))
            )
    return found


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a region."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


def selective_search(image: NDArray[np.uint8]) -> Boxes:
    """(P, 4) boxes of regions that are merged, the most alike first, by colour, texture, size, and how they fill a box."""
    boxes: dict[tuple[int, ...], None] = {}
    for scale in (40, 120):
        labels = felzenszwalb(image, scale=scale, sigma=0.6, min_size=25)
        count = int(labels.max()) + 1
        values = image.reshape(-1, 3) // 16
        gradients = [np.abs(np.gradient(image[..., k].astype(np.float64), axis=axis)) for k in range(3) for axis in (0, 1)]
        bins = [values[:, k] for k in range(3)] + [np.minimum(g.ravel() / 8, 9).astype(int) for g in gradients]
        flat = labels.ravel()
        sizes = np.bincount(flat, minlength=count)
        histograms = [np.histogram2d(flat, part, (np.arange(count + 1), np.arange(int(part.max()) + 2)))[0] for part in bins]
        regions = {
            k: {"box": np.array(box_of(labels == k)), "size": float(sizes[k]), "bins": [h[k] / sizes[k] for h in histograms]}
            for k in range(count)
        }
        sides = np.concatenate(
            [
                np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], 1),
                np.stack([labels[:-1].ravel(), labels[1:].ravel()], 1),
            ]
        )
        pairs = {(int(a), int(b)) for a, b in np.unique(np.sort(sides[sides[:, 0] != sides[:, 1]], axis=1), axis=0)}
        alike = {pair: _alike(regions[pair[0]], regions[pair[1]], labels.size) for pair in pairs}
        boxes |= {tuple(region["box"].tolist()): None for region in regions.values()}
        while alike:
            a, b = max(alike, key=alike.__getitem__)
            one, other, name = regions[a], regions[b], len(regions)
            size = one["size"] + other["size"]
            box = np.concatenate([np.minimum(one["box"][:2], other["box"][:2]), np.maximum(one["box"][2:], other["box"][2:])])
            mixed = [(p * one["size"] + q * other["size"]) / size for p, q in zip(one["bins"], other["bins"], strict=True)]
            regions[name] = {"box": box, "size": size, "bins": mixed}
            boxes[tuple(box.tolist())] = None
            near = {c for pair in alike for c in pair if a in pair or b in pair} - {a, b}
            alike = {pair: value for pair, value in alike.items() if a not in pair and b not in pair}
            alike |= {(c, name): _alike(regions[c], regions[name], labels.size) for c in near}
    found = np.array(list(boxes), np.float64)
    width, height = found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]
    return found[(np.minimum(width, height) >= 6) & (np.maximum(width, height) <= 0.6 * SIDE)]


def _alike(one: dict[str, Any], other: dict[str, Any], pixels: int) -> float:
    size = one["size"] + other["size"]
    corners = np.minimum(one["box"][:2], other["box"][:2]), np.maximum(one["box"][2:], other["box"][2:])
    shared = sum(float(np.minimum(p, q).sum()) for p, q in zip(one["bins"], other["bins"], strict=True)) / len(one["bins"])
    return 2 * shared + (1 - size / pixels) + (1 - (float(np.prod(corners[1] - corners[0])) - size) / pixels)


def encoder() -> nn.Module:
    """The encoder with ImageNet's weights."""
    config = NetworkConfig("unet", "tu-tf_efficientnet_lite0", 3, 2, {"encoder_depth": 4, "decoder_channels": [64, 32, 16, 16]})
    network = build_network(config)
    load_weights(network, str(WEIGHTS), config=config, bands=("red", "green", "blue"))
    part = network.encoder
    assert isinstance(part, nn.Module)
    return part.eval()


def tensor_of(image: NDArray[np.uint8]) -> Tensor:
    """(3, h, w), normalized."""
    return (torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) - PIXELS[0]) / PIXELS[1]


def offsets_of(boxes: Tensor, truth: Tensor) -> Tensor:
    """How boxes move to others, relative to their size."""
    size, other = boxes[:, 2:] - boxes[:, :2], truth[:, 2:] - truth[:, :2]
    return torch.cat([((truth[:, :2] + truth[:, 2:]) - (boxes[:, :2] + boxes[:, 2:])) / 2 / size, torch.log(other / size)], 1)


def moved(boxes: Tensor, offsets: Tensor) -> Tensor:
    """The inverse."""
    size = boxes[:, 2:] - boxes[:, :2]
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2 + offsets[:, :2] * size, size * torch.exp(offsets[:, 2:].clamp(-1, 1)) / 2
    return torch.cat([middle - half, middle + half], 1).clamp(0, SIDE)


def kept(boxes: Tensor, score: Tensor) -> Found:
    """Without boxes that a surer one overlaps."""
    which = nms(boxes.float(), score.float(), 0.3)[:100]
    return boxes[which].double().numpy(), score[which].double().numpy()


def examples(boxes: Boxes, truth: Boxes, rng: np.random.Generator, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Proposals and buildings of an image to learn from: boxes, whether they are buildings, and which they overlap most."""
    every = torch.from_numpy(np.concatenate([boxes, truth]))
    if not len(truth):
        chosen = torch.from_numpy(rng.permutation(len(every))[:most])
        return every[chosen], torch.zeros(len(chosen), dtype=torch.bool), torch.zeros(len(chosen), dtype=torch.long)
    iou, which = box_iou(every, torch.from_numpy(truth)).max(dim=1)
    yes, no = torch.nonzero(iou >= 0.5)[:, 0].numpy(), torch.nonzero(iou < 0.3)[:, 0].numpy()
    chosen = torch.from_numpy(np.concatenate([rng.permutation(yes)[: most // 3], rng.permutation(no)[: most - most // 3]]))
    return every[chosen], iou[chosen] >= 0.5, which[chosen]


def r_cnn(train: list[tuple[NDArray[np.uint8], Boxes]]) -> Detector:
    """Train R-CNN."""
    network, rng = encoder(), np.random.default_rng(0)

    def features(image: NDArray[np.uint8], boxes: Tensor) -> NDArray[np.float32]:
        around = boxes.float().clone()
        pad = 0.125 * (around[:, 2:] - around[:, :2])
        around[:, :2] -= pad
        around[:, 2:] += pad
        crops = roi_align(tensor_of(image)[None], [around], WARPED, aligned=True)
        with torch.no_grad():
            parts = [torch.cat([F.adaptive_avg_pool2d(x, 2).flatten(1) for x in network(c)[-2:]], 1) for c in crops.split(64)]
        found: NDArray[np.float32] = torch.cat(parts).numpy()
        return found

    x, y, moves, near = [], [], [], []
    for image, truth in train:
        boxes, is_building, which = examples(selective_search(image), truth, rng, 96)
        rows = features(image, boxes)
        x.append(rows)
        y.append(is_building.numpy())
        if bool(is_building.any()):
            near.append(rows[is_building.numpy()])
            moves.append(offsets_of(boxes[is_building], torch.from_numpy(truth)[which[is_building]]).numpy())
    matrix, label = np.concatenate(x), np.concatenate(y)
    mean, scale = matrix.mean(axis=0), matrix.std(axis=0) + 1e-3
    machine = LinearSVC(C=1e-3, class_weight="balanced").fit((matrix - mean) / scale, label)
    ridge = Ridge(alpha=1000.0).fit((np.concatenate(near) - mean) / scale, np.concatenate(moves))

    def detect(image: NDArray[np.uint8]) -> Found:
        boxes = torch.from_numpy(selective_search(image))
        rows = (features(image, boxes) - mean) / scale
        return kept(moved(boxes, torch.from_numpy(ridge.predict(rows))), torch.from_numpy(machine.decision_function(rows)))

    return detect


class FastHead(nn.Module):
    """What a region is, and how its box moves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels * 25, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        self.what, self.where = nn.Linear(256, 2), nn.Linear(256, 4)

    def forward(self, features: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (P, 2) and moves (P, 4) of boxes (P, 4) of one image."""
        regions = roi_align(features, [boxes.float()], 5, features.shape[-1] / SIDE, aligned=True)
        hidden = self.layers(regions.flatten(1))
        return self.what(hidden), self.where(hidden)


def fast_r_cnn(train: list[tuple[NDArray[np.uint8], Boxes]], steps: int) -> Detector:
    """Train Fast R-CNN."""
    torch.manual_seed(0)
    network, rng = encoder(), np.random.default_rng(0)

    def features(image: Tensor) -> Tensor:
        found = network(image[None])
        return torch.cat([found[-2], F.interpolate(found[-1], found[-2].shape[-2:], mode="bilinear")], 1)

    with torch.no_grad():
        channels = features(tensor_of(train[0][0])).shape[1]
    head = FastHead(channels)
    proposals = [selective_search(image) for image, _ in train]
    groups = [{"params": head.parameters(), "lr": 1e-3}, {"params": network.parameters(), "lr": 1e-4}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    # Its batch normalization stays as it is: an image is a batch.
    for step in range(steps):
        k = int(rng.integers(len(train)))
        boxes, is_building, which = examples(proposals[k], train[k][1], rng, 96)
        image = tensor_of(train[k][0])
        if step % 2:
            image, boxes = (
                image.flip(-1),
                boxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([SIDE, 0, SIDE, 0]),
            )
        what, where = head(features(image), boxes)
        loss = F.cross_entropy(what, is_building.long())
        if bool(is_building.any()):
            truth = torch.from_numpy(train[k][1])[which[is_building]]
            if step % 2:
                truth = truth[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([SIDE, 0, SIDE, 0])
            loss = loss + 2 * F.smooth_l1_loss(where[is_building], offsets_of(boxes[is_building], truth).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    def detect(image: NDArray[np.uint8]) -> Found:
        boxes = torch.from_numpy(selective_search(image))
        with torch.no_grad():
            what, where = head(features(tensor_of(image)), boxes)
        return kept(moved(boxes, where.double()), what.softmax(1)[:, 1])

    return detect


def of_geoseg(model: Path) -> Detector:
    """A model of geoseg; its boxes are those of the network, before anything is painted."""
    loaded = load_model(str(model))
    form = load_network(loaded)
    assert isinstance(form, PaintedObjects)
    mean, deviation = (
        torch.tensor([getattr(band, name) for band in loaded.card.scaling]).view(3, 1, 1) for name in ("mean", "stddev")
    )

    def detect(image: NDArray[np.uint8]) -> Found:
        pixels = (torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) - mean) / deviation
        with torch.inference_mode():
            found = form.detector(pixels[None])[0]
        return found["boxes"].double().numpy(), found["scores"].double().numpy()

    return detect


def overlaps_of(found: Boxes, truth: Boxes) -> Overlaps:
    """The overlaps of boxes."""
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (found, truth)]
    low, high = np.maximum(found[:, None, :2], truth[None, :, :2]), np.minimum(found[:, None, 2:], truth[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    first, second = np.nonzero(common)
    return Overlaps(first, second, common[first, second], areas[0], areas[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="images that Fast R-CNN learns from, one a step")
    args = parser.parse_args()
    prepare_joplin()
    train, judged = images_of("left"), images_of("right")
    faster = trained("joplin", Row("Faster R-CNN", "joplin_mask_rcnn", {"network.architecture": "faster-rcnn"}), 0, [])
    mask = trained("joplin", TABLES["joplin"].rows[1], 0, [])
    makers: dict[str, Callable[[], Detector]] = {
        "R-CNN": lambda: r_cnn(train),
        "Fast R-CNN": lambda: fast_r_cnn(train, args.steps),
        "Faster R-CNN": lambda: of_geoseg(faster),
        "Mask R-CNN": lambda: of_geoseg(mask),
    }
    recall = []
    for image, truth in judged:
        if len(truth):
            recall += (box_iou(torch.from_numpy(truth), torch.from_numpy(selective_search(image))).amax(1) >= 0.5).tolist()
    print(f"Selective search has a box with an intersection over union of 0.5 for {np.mean(recall):.0%} of the buildings.\n")
    print("| | AP50 of boxes | AP | seconds an image |\n|---|---|---|---|")
    for name, make in makers.items():
        detect = make()
        detect(judged[0][0])
        tally, seconds = PrecisionTally(), []
        for image, truth in judged:
            start = time.perf_counter()
            boxes, score = detect(image)
            seconds.append(time.perf_counter() - start)
            tally.add(overlaps_of(boxes, truth), score)
        precision = tally.precision()
        print(f"| {name} | {precision[0]:.3f} | {precision.mean():.3f} | {statistics.median(seconds):.2f} |", flush=True)


if __name__ == "__main__":
    main()
