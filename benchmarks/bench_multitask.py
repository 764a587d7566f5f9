"""Segmentation alone against segmentation with further tasks, on amazon_forest: a table in Markdown.

    python benchmarks/bench_multitask.py ../shared/data/amazon_forest --steps 1000 --seeds 3
    python benchmarks/bench_multitask.py ../shared/data/amazon_forest --init build/weights/efficientnet_lite0.safetensors

All rows have the same steps, chips and first weights: a U-Net trained on all scenes of ``train``, the last moving average
of its weights measured on ``val``, once. The further tasks are boundaries, distances to them, the classes that a chip
holds, and the cover fraction in cells of 8 x 8 pixels; all of them are made from the same labels. ``--init`` takes the
weights of the encoder from a file that ``benchmarks/imagenet_weights.py`` makes. What is finished is kept below ``--out``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.codes import UNLABELLED
from geoseg.georeference import Georeference
from geoseg.labels.labels import open_labels
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.networks.deploy import inference_form
from geoseg.models.networks.heads import MultiTaskNetwork, main_network
from geoseg.models.networks.pretrained import load_weights
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from geoseg.training.data.check_windows import Loaders, check_loader
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.training.data.labelled import LabelledScene, Values
from geoseg.training.data.loaders import Preparation, Reading, normalized, training_loader
from geoseg.training.data.samplers import AreaSampler
from geoseg.training.loop import LAST, Watching, fit, weights_of
from geoseg.training.losses.balancing import DynamicWeights, UncertaintyWeights, make_weighting
from geoseg.training.losses.targets import boundary_map
from geoseg.training.losses.tasks import Boundary, Distance, MultiTask, Regression, SceneClasses, Task, kinds_of, spread_of
from geoseg.training.module import Descent, TrainingModule
from geoseg.training.training_plan import LearningRates, LoopSettings
from geoseg.windows import Window

BANDS = ("red", "green", "blue")
CODES = {"0": 0, "1": 1}
CHIP, BATCH, CELL, NEAR_PX = 256, 8, 8, 2
MEAN, STDDEV = (47.0, 56.0, 59.0), (30.0, 18.0, 14.0)
PARAMETERS = {"encoder_depth": 4, "decoder_channels": [128, 64, 32, 16]}
MANUAL = {"boundary": 0.2, "distance": 0.5, "scene_classes": 0.1, "regression": 0.5}
ROWS = ("single", "uniform", "manual", "dynamic", "uncertainty")
TASKS = ("boundary", "distance", "scene_classes", "regression")
FIGURES = {
    "miou": "mIoU",
    "boundary": f"boundary F1 ({NEAR_PX} px)",
    "cover": "cover error",
    "head": "cover error of the head",
    "seconds": "s/step",
}


@dataclass
class WithCover:
    """A labelled scene with its forest cover as the raster to regress: 1, 0, or NaN."""

    scene: ChipSource
    name: str
    height: int
    width: int
    georeference: Georeference | None

    def read(self, window: Window) -> Chip:
        """The chip of a window."""
        chip = self.scene.read(window)
        cover = np.where(chip.labels == UNLABELLED, np.nan, chip.labels == 1).astype(np.float32)
        return replace(chip, objects=None, rasters=cover[None])


def open_scenes(folder: Path) -> list[ChipSource]:
    values = Values(BANDS, "uint8", (0, 255))
    found: list[ChipSource] = []
    for path in sorted((folder / "images").glob("*.tif")):
        scene = open_scene((str(path),), path.stem, OpenOptions())
        place, mask = scene.georeference, str(folder / "masks" / path.name)
        labelled = LabelledScene(scene, open_labels(mask, place, scene.height, scene.width, CODES), values)
        found.append(WithCover(labelled, path.stem, scene.height, scene.width, place))
    return found


def changed(chip: Chip, rng: np.random.Generator) -> Chip:
    """A quarter turn, a mirror image, another brightness and colour."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))

    def moved(values: NDArray[Any]) -> NDArray[Any]:
        turned = np.rot90(values, turns, (-2, -1))
        return np.ascontiguousarray(turned[..., ::-1] if mirror else turned)

    gain = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.08, (len(chip.image), 1, 1))).astype(np.float32)
    assert chip.rasters is not None
    image = np.clip(moved(chip.image) * gain, 0, 255)
    return Chip(image, moved(chip.valid), moved(chip.labels), None, moved(chip.rasters))


def cross_entropy(scores: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    del weights
    return F.cross_entropy(scores, labels, ignore_index=UNLABELLED)


def train(row: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one row with one seed; its figures."""
    torch.manual_seed(seed)
    config = NetworkConfig("unet", args.encoder, len(BANDS), 2, PARAMETERS)
    base = build_network(config)
    if args.init:
        print(load_weights(base, str(args.init), config=config, bands=BANDS).note, file=sys.stderr)
    scenes, val = open_scenes(args.data / "train"), open_scenes(args.data / "val")
    preparation = Preparation(mean=MEAN, stddev=STDDEV, size=CHIP, changes=(changed,))
    sampler = AreaSampler(scenes, CHIP, seed, 2)
    network, terms, regression = base, [], None
    if row != "single":
        few = training_loader(scenes, sampler, preparation, batches=8, size=BATCH)
        offsets, scales = spread_of(batch.rasters for batch in few)
        regression = Regression(offsets, scales, stride=CELL)
        made: list[Task] = [Boundary(), Distance(), SceneClasses(2), regression]
        tasks = [task for task in made if task.name in args.tasks]
        network = MultiTaskNetwork(base, [task.head for task in tasks])
        weighting = make_weighting(row, kinds_of(tasks), MANUAL)
        terms = [MultiTask(tasks, weighting, cross_entropy)]
    module = TrainingModule(
        network,
        inference_form(network),
        classes=2,
        sigmoid=False,
        loss=cross_entropy,
        descent=Descent([{"params": list(network.parameters()), "factor": 1.0}], LearningRates(args.lr, args.steps), 0.02),
        terms=terms,
    )
    loader = training_loader(scenes, sampler, preparation, batches=args.steps, size=BATCH, reading=Reading(args.workers))
    # One check, of one window, when all is done: nothing is chosen by it.
    checks = check_loader(val[:1], [(0, Window.of((64, 64)))], preparation, context=0, stride=32)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fit(
            module,
            Loaders({"labelled": loader}, checks),
            Path(folder),
            LoopSettings(steps=args.steps, epoch=args.steps, seed=seed, clip=5.0, average=0.99, device=args.device),
            Watching(progress=False),
        )
        seconds = (time.monotonic() - start) / args.steps
        network.load_state_dict(weights_of(Path(folder) / LAST))
    return {**measured(network.cpu().eval(), val, regression), "seconds": seconds, "weights": weights_found(terms)}


def weights_found(terms: list[Any]) -> dict[str, float]:
    """The weights of the tasks at the end of a training, where they were found."""
    weighting = terms[0].weighting if terms else None
    if isinstance(weighting, DynamicWeights):
        return {name: float(value) for name, value in weighting.weights().items()}
    if isinstance(weighting, UncertaintyWeights):
        return {name: float(torch.exp(-value.detach())) for name, value in weighting.log_variances().items()}
    return {}


def measured(network: torch.nn.Module, scenes: list[ChipSource], regression: Regression | None) -> dict[str, float]:
    """Figures of a network on whole scenes: pooled mean IoU, boundary F1, errors of the cover fraction."""
    matrix, edges, cover, of_head = np.zeros((2, 2)), np.zeros(4), [], []
    for scene in scenes:
        chip = scene.read(Window.of((scene.height, scene.width)))
        image = normalized(chip, MEAN, STDDEV)[None]
        with torch.inference_mode():
            found = network(image) if isinstance(network, MultiTaskNetwork) else {"scores": network(image)}
            assert torch.equal(found["scores"], main_network(network)(image))
        forest = found["scores"].softmax(1)[0, 1].numpy()
        guess, known = (forest > 0.5).astype(np.uint8), chip.labels != UNLABELLED
        matrix += np.bincount(2 * chip.labels[known].astype(int) + guess[known], minlength=4).reshape(2, 2)
        edges += edge_counts(guess, chip.labels)
        assert chip.rasters is not None
        truth = cells(chip.rasters[0])
        cover.append(np.abs(cells(np.where(known, forest, np.nan)) - truth))
        if regression is not None and regression.name in found:
            of_head.append(np.abs(regression.values(found[regression.name])[0, 0].numpy() - truth))
    hit = matrix.diagonal()
    precision, recall = edges[0] / max(1, edges[1]), edges[2] / max(1, edges[3])
    return {
        "miou": float((hit / (matrix.sum(0) + matrix.sum(1) - hit)).mean()),
        "boundary": float(2 * precision * recall / max(1e-9, precision + recall)),
        "cover": float(np.nanmean(np.stack(cover))),
        "head": float(np.nanmean(np.stack(of_head))) if of_head else float("nan"),
    }


def cells(values: NDArray[Any]) -> NDArray[np.float64]:
    """Means over cells whose pixels are all known."""
    height, width = (n // CELL * CELL for n in values.shape)
    blocks = values[:height, :width].reshape(height // CELL, CELL, width // CELL, CELL)
    return np.asarray(blocks.mean((1, 3)), np.float64)


def edge_counts(guess: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Found boundary pixels near true ones, all found ones, true ones near found ones, all true ones."""
    truth = boundary_map(labels, 2)
    known = truth != UNLABELLED
    found = (boundary_map(guess, 2) == 1) & known
    true = truth == 1
    near_true, near_found = (
        ndimage.distance_transform_edt(~edge) <= NEAR_PX if edge.any() else np.zeros_like(edge) for edge in (true, found)
    )
    return np.array([(found & near_true).sum(), found.sum(), (true & near_found).sum(), true.sum()], np.float64)


def shown(results: list[dict[str, Any]], figure: str) -> str:
    values = [float(result[figure]) for result in results]
    if np.isnan(values).any():
        return "-"
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{statistics.median(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Segmentation alone against segmentation with further tasks.")
    parser.add_argument("data", type=Path, help="the folder amazon_forest, with train and val")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1, help="how many trainings each row is the median of")
    parser.add_argument("--init", type=Path, help="weights of the encoder, as safetensors")
    parser.add_argument("--encoder", default="timm-tf_efficientnet_lite0")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--lr", type=float, default=1e-3, help="largest learning rate of the one-cycle schedule")
    parser.add_argument("--workers", type=int, default=0, help="processes that read")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("build/multitask"))
    args = parser.parse_args()
    settings = f"{args.encoder}-{args.init.stem if args.init else 'random'}-{'-'.join(args.tasks)}-{args.steps}-{args.lr:g}"
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {}
    for seed in range(args.seeds):
        for row in args.rows:
            path = args.out / f"{settings}-{row}-{seed}.json"
            if not path.is_file():
                path.write_text(json.dumps(train(row, seed, args)), encoding="utf-8")
            results.setdefault(row, []).append(json.loads(path.read_text(encoding="utf-8")))
            print(f"{row}, seed {seed}: {results[row][-1]}", file=sys.stderr, flush=True)
    print(f"\nU-Net/{args.encoder}, {args.steps} steps of {BATCH} chips of {CHIP} px, {args.seeds} seeds\n")
    print("| training | " + " | ".join(FIGURES.values()) + " |")
    print("|---" * (len(FIGURES) + 1) + "|")
    for row, found in results.items():
        print(f"| {row} | " + " | ".join(shown(found, figure) for figure in FIGURES) + " |")
    for row, found in results.items():
        for seed, result in enumerate(found):
            if result["weights"]:
                listed = ", ".join(f"{name} {value:.3g}" for name, value in result["weights"].items())
                print(f"\nWeights at the end, {row}, seed {seed}: {listed}")


if __name__ == "__main__":
    main()
