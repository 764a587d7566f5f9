"""Train models from recipes, judge them on validation data, and print the tables of docs/accuracy.md.

    python benchmarks/bench_accuracy.py amazon deepglobe isbi simulation transfer forgetting
    python benchmarks/bench_accuracy.py amazon --seeds 1 --set loop.steps=100

Each row is a training of ``geoseg train`` from a recipe of benchmarks/recipes with some changes. What is finished is
kept in build/accuracy and not trained again, and an interrupted training goes on where it was, so that the tables can be
made over several days. ImageNet weights come from ``benchmarks/imagenet_weights.py``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.evaluation.isbi import best_threshold, measure
from geoseg.georeference import Georeference
from geoseg.inference.decision import Decision
from geoseg.inference.symmetries import SYMMETRIES, turn, turn_back
from geoseg.labels.coco import mask_labels
from geoseg.models.model_folder import load_model
from geoseg.procedural import Frontier
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.training.data.labelled import LabelledImage, Values
from geoseg.training.validation import judge, open_for_chips
from geoseg.windows import Window

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
RECIPES = ROOT / "benchmarks" / "recipes"
WORK = ROOT / "build" / "accuracy"


@dataclass(frozen=True)
class Row:
    """One line of a table: a recipe with changes, trained once per seed."""

    name: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    after: str | None = None
    """Name of the row whose model this one begins with."""
    once: bool = False
    """Whether it is trained with one seed only, whatever the table."""


def slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")


def toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(entry) for entry in value) + "]"
    return json.dumps(value)


def trained(table: str, row: Row, seed: int, extra: list[str]) -> Path:
    """The model folder of one training; trains it if it is not there."""
    out = WORK / table / f"{slug(row.name)}-{seed}"
    changes = {**row.changes, "loop.seed": seed}
    if row.after is not None:
        changes["init.weights"] = str(WORK / table / f"{slug(row.after)}-{seed}")
    if not (out / "training" / "validation.json").is_file():
        command = [sys.executable, "-m", "pipeline", "train", str(RECIPES / f"{row.recipe}.toml"), "--out", str(out)]
        for key, value in changes.items():
            command += ["--set", f"{key}={toml(value)}"]
        for change in extra:
            command += ["--set", change]
        start = time.monotonic()
        subprocess.run(command, check=True, cwd=ROOT)
        print(f"{table}: {row.name}, seed {seed}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return out


Figures = dict[str, float]


def reported(model: Path) -> Figures:
    """Figures of the validation report, whose scenes chose nothing."""
    report = json.loads((model / "training" / "validation.json").read_text(encoding="utf-8"))
    return {"mIoU": report["miou"]} | {f"IoU {c['class']}": c["iou"] for c in report["classes"]}


def mapped(model: Path) -> Figures:
    """Figures of maps of amazon_forest's val, as `geoseg segment` makes and `geoseg evaluate` judges them."""
    figures: Figures = {}
    for suffix, options in (("", []), (", turned 8 ways", ["--tta", "d4"])):
        maps = model / "training" / f"maps{len(options)}"
        found = evaluated(model, maps, options)
        figures |= {f"mIoU{suffix}": found["figures"]["miou"]} | {f"IoU {c['class']}{suffix}": c["iou"] for c in found["classes"]}
    return figures


def evaluated(
    model: Path | str, maps: Path, options: Sequence[str], data: Path = DATA / "amazon_forest" / "val"
) -> dict[str, Any]:
    """What `geoseg evaluate` says of maps that are made with some options, of images that have masks beside them."""
    out = maps.with_name(f"{maps.name}-evaluation")
    for arguments in (
        ["segment", str(data / "images"), "--model", str(model), "--out", str(maps), "--quiet", *options],
        ["evaluate", "--pred", str(maps), "--truth", str(data / "masks"), "--out", str(out), "--overwrite"],
    ):
        subprocess.run([sys.executable, "-m", "pipeline", *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    return found


def objects(model: Path) -> Figures:
    """Figures of objects in windows whose thresholds were chosen on the other windows."""
    report = json.loads((model / "training" / "validation.json").read_text(encoding="utf-8"))["objects"]
    names = {"f1": "F1", "precision": "precision", "recall": "recall", "ap50": "AP50", "ap": "AP", "pq": "PQ"}
    return {title: report[name] for name, title in names.items()}


def by_city(model: Path) -> Figures:
    """IoU of buildings, pooled and by city, of the validation report, whose cities chose nothing."""
    report = json.loads((model / "training" / "validation.json").read_text(encoding="utf-8"))
    totals: dict[str, Any] = {}
    for scene in report["scenes"]:
        city = scene["scene"].split("_")[1].rstrip("0123456789")
        totals[city] = totals.get(city, 0) + np.asarray(scene["confusion"])
    pooled = {"IoU of buildings": report["classes"][1]["iou"]}
    return pooled | {city: float(ConfusionMatrix(counts).iou()[1]) for city, counts in sorted(totals.items())}


def without_calibration(model: Path) -> Figures:
    """Figures of maps of amazon_forest's val by the network as it was trained.

    A calibration that was fitted to labels of the target would be an adaptation by these.
    """
    plain = model / "training" / "uncalibrated"
    shutil.copytree(model, plain, ignore=shutil.ignore_patterns("training"), dirs_exist_ok=True)
    card = load_model(str(model)).card
    card.model_copy(update={"calibration": None}).write(plain / "card.json")
    found = evaluated(plain, model / "training" / "maps-uncalibrated", [])
    return {"mIoU": found["figures"]["miou"]} | {f"IoU {c['class']}": c["iou"] for c in found["classes"]}


def by_region(model: Path) -> Figures:
    """Mean IoU over the scenes of each region, of the validation report."""
    report = json.loads((model / "training" / "validation.json").read_text(encoding="utf-8"))
    totals = {name: np.zeros((2, 2), np.int64) for name in ("mIoU old region", "mIoU new region")}
    for scene in report["scenes"]:
        name = "mIoU old region" if scene["scene"].startswith("Amazon_") else "mIoU new region"
        totals[name] += np.asarray(scene["confusion"])
    return {name: ConfusionMatrix(counts).miou() for name, counts in totals.items()}


class Turned:
    """An image and its labels turned; read as a whole."""

    georeference: Georeference | None = None

    def __init__(self, image: ChipSource, turns: int, mirrored: bool) -> None:
        self.image, self.turns, self.mirrored = image, turns, mirrored
        self.name = f"{image.name} turned {turns} times{' and mirrored' if mirrored else ''}"
        self.height, self.width = (image.width, image.height) if turns % 2 else (image.height, image.width)

    def read(self, window: Window) -> Chip:
        """The turned image, whatever the window: there is only one."""
        assert window == Window.of((self.height, self.width))
        chip = self.image.read(Window.of((self.image.height, self.image.width)))
        return Chip(*(turn(part, self.turns, self.mirrored) for part in (chip.image, chip.valid, chip.labels)))


def challenge(model: Path) -> Figures:
    """Measures of ISBI 2012 on slices 18-23, as they are and as means of eight turned images.

    The threshold is that of the best mean V_Rand on slices 15-17, which belong to train: the recipe with ImageNet weights
    holds them out, so that it is not chosen on what was learned by heart.
    """
    loaded = load_model(str(model))
    engine, decision = open_for_chips(loaded), Decision.of(loaded.card)
    cell = [c.name for c in loaded.card.classes].index("cell")
    codes, values = {"0": 1 - cell, "255": cell}, Values(("gray",), "uint8")
    folder = DATA / "isbi2012"

    def slices(numbers: range, symmetries: Sequence[tuple[int, bool]]) -> list[tuple[NDArray[np.bool_], NDArray[np.float32]]]:
        images = [
            LabelledImage(str(path), mask_labels(str(folder / "label" / path.name), codes), values)
            for path in sorted((folder / "image").iterdir())
            if int(path.stem) in numbers
        ]
        sums = [np.zeros((image.height, image.width), np.float32) for image in images]
        for turns, mirrored in symmetries:
            for part in judge(engine, loaded.card, [Turned(image, turns, mirrored) for image in images]):
                sums[part.source] += turn_back(part.probabilities(decision)[cell], turns, mirrored) / len(symmetries)
        truths = [image.read(Window.of((image.height, image.width))).labels == cell for image in images]
        return list(zip(truths, sums, strict=True))

    figures: Figures = {}
    for suffix, symmetries in (("", SYMMETRIES[:1]), (", turned 8 ways", SYMMETRIES)):
        threshold, _ = best_threshold(slices(range(15, 18), symmetries), np.linspace(0.1, 0.95, 18))
        measured = [measure(truth, p >= threshold) for truth, p in slices(range(18, 24), symmetries)]
        for title, key in (
            ("V_Rand", "v_rand"),
            ("V_Info", "v_info"),
            ("pixel error", "pixel_error"),
            ("warping error", "warping_error"),
        ):
            figures[title + suffix] = float(np.mean([getattr(m, key) for m in measured]))
        figures["threshold" + suffix] = threshold
    return figures


def figures_of(model: Path, judge_model: Callable[[Path], Figures]) -> Figures:
    """The figures of a model, kept beside it."""
    kept = model / "training" / f"{judge_model.__name__}.json"
    if not kept.is_file():
        kept.write_text(json.dumps(judge_model(model), indent=2), encoding="utf-8")
    found: Figures = json.loads(kept.read_text(encoding="utf-8"))
    return found


def printed(name: str, table: Table, seeds: int, extra: list[str]) -> str:
    """The table in Markdown: the median over the seeds, and the range where there are several."""
    by_row: list[tuple[str, list[Figures]]] = []
    for row in table.rows:
        models = [trained(name, row, seed, extra) for seed in range(1 if row.once else seeds)]
        by_row.append((row.name, [figures_of(model, table.judge) for model in models]))
    columns = table.figures or tuple(by_row[0][1][0])
    lines = [f"### {table.title}", "", "| training | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row_name, found in by_row:
        cells = []
        for column in columns:
            values = sorted(figures[column] for figures in found)
            text = f"{statistics.median(values):.3f}"
            cells.append(f"{text} ({values[0]:.3f} to {values[-1]:.3f})" if len(values) > 1 else text)
        lines.append(f"| {row_name} | {' | '.join(cells)} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Table:
    """Rows to compare, and the figures to compare them by."""

    title: str
    rows: tuple[Row, ...]
    judge: Callable[[Path], Figures] = mapped
    figures: tuple[str, ...] = ()
    """Columns; all figures by default."""
    seeds: int = 1


def prepare_deepglobe() -> None:
    """Divide the chips as split.csv says, by links into folders."""
    data = DATA / "deepglobe_forest"
    for line in (data / "split.csv").read_text(encoding="utf-8").splitlines()[1:]:
        part, _, _, _, image, mask, _ = line.split(",")
        if part not in ("train", "val"):
            continue
        for kind, file in (("images", image), ("masks", mask)):
            link = WORK / "deepglobe" / part / kind / file
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(data / "chips" / file)


def prepare_simulation() -> None:
    """Make scenes by rule, and their truth."""
    folder = WORK / "simulation"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for seed in range(1, 7):
        name = f"frontier-{seed}.tif"
        if not (folder / "masks" / name).is_file():
            Frontier(2048, 2048, seed=seed).write(folder / "images" / name, folder / "masks" / name)


def prepare_joplin() -> None:
    """Cut the scene in two, in the middle."""
    folder = WORK / "joplin"
    folder.mkdir(parents=True, exist_ok=True)
    with rasterio.open(DATA / "joplin_damage" / "pre.tif") as scene:
        half = scene.width // 2
        for name, left in (("left", 0), ("right", half)):
            window = RasterioWindow(left, 0, half, scene.height)
            profile = scene.profile | {"width": half, "transform": scene.window_transform(window)}
            with rasterio.open(folder / f"{name}.tif", "w", **profile) as part:
                part.write(scene.read(window=window))


PREPARE = {
    "deepglobe": prepare_deepglobe,
    "forgetting": prepare_deepglobe,
    "simulation": prepare_simulation,
    "joplin": prepare_joplin,
}
SMALL = {
    "network.architecture": "unet",
    "network.parameters": {"encoder_depth": 4, "decoder_channels": [128, 64, 32, 16]},
    "loop.steps": 60,
    "loop.check": 30,
}
"""A smaller network and fewer steps, for tables that compare."""
SHORT = {"loop.steps": 60, "loop.check": 60}
STEADY = SHORT | {"adapt.pseudo": 1.0, "adapt.share": 0.5, "adapt.light": 0.3}
KAMPALA, BANEPA = (
    {
        "images": [str(DATA / folder / "scene.tif")],
        "labels": str(DATA / folder / "buildings.geojson"),
        "outside": "other",
        "resample": True,
    }
    for folder in ("kampala_buildings", "banepa_buildings/train")
)
BESIDE = {"data": [KAMPALA, BANEPA | {"role": "train", "prefix": "banepa-"}]}
"""Blocks of Kampala alone are held out; all of Banepa's part teaches."""
STEADIEST = STEADY | {"loss.factors": {"non-forest": 3.0}, "loop.check": 5, "loop.choose": "consistency"}
FROZEN = {"init.encoder_rate": 0, "loop.precision": "bf16"}
CITIES_LONG = {"loop.precision": "bf16", "loop.steps": 1500, "sample.chip": 320, "sample.batch": 6}
LITE1 = {
    "network.encoder": "tu-tf_efficientnet_lite1",
    "init.weights": str(ROOT / "build" / "weights" / "efficientnet_lite1.safetensors"),
}
TABLES = {
    "amazon": Table(
        "Forest in the Amazon",
        (
            Row("unet-fine, ImageNet", "amazon_forest"),
            Row("the same, non-forest counts 2", "amazon_forest", {"loss.factors": {"non-forest": 2.0}, "loop.choose": "last"}),
        ),
        seeds=3,
    ),
    "deepglobe": Table("Forest at half a metre", (Row("unet, ImageNet", "deepglobe_forest"),), reported),
    "isbi": Table(
        "Cells in electron microscopy",
        (
            Row(
                "ImageNet, elastic deformation and border weights, 500 steps",
                "isbi2012_pretrained",
                {"loop.steps": 500, "loop.check": 250},
            ),
            Row("the same, 200 steps", "isbi2012_pretrained"),
            Row("200 steps without elastic deformation", "isbi2012_pretrained", {"augment.elastic": 0}),
            Row("200 steps without border weights", "isbi2012_pretrained", {"loss.border": 0}),
            Row("U-Net of 2015, width 24, 500 steps", "isbi2012"),
            Row(
                "U-Net of 2015 at full width, all 18 slices",
                "isbi2012",
                {
                    "network.parameters": {"width": 64, "depth": 4, "padding": "same", "dropout": 0.3, "batch_norm": True},
                    "loss.border": 20.0,
                    "loss.factors": {"membrane": 2.0},
                    "loop.precision": "bf16",
                    "loop.check": 300,
                },
            ),
        ),
        challenge,
        (
            "V_Rand",
            "V_Rand, turned 8 ways",
            "V_Info, turned 8 ways",
            "warping error, turned 8 ways",
            "pixel error, turned 8 ways",
        ),
    ),
    "simulation": Table(
        "From simulation to the Amazon",
        (
            Row("simulation alone", "simulation_amazon", SHORT),
            Row("statistics of the target", "simulation_amazon", SHORT | {"adapt.statistics": True}, once=True),
            Row("colours of the target (histogram)", "simulation_amazon", SHORT | {"adapt.style": "histogram"}, once=True),
            Row("colours of the target (Fourier)", "simulation_amazon", SHORT | {"adapt.style": "fourier"}, once=True),
            Row("self-training", "simulation_amazon", SHORT | {"adapt.pseudo": 1.0}),
            Row("the same, half of each class, light changed", "simulation_amazon", STEADY),
            Row("the same, non-forest counts 3", "simulation_amazon", STEADY | {"loss.factors": {"non-forest": 3.0}}),
            Row("the same, the steadiest checkpoint (consistency)", "simulation_amazon", STEADIEST),
            Row("simulation alone, encoder frozen", "simulation_amazon", SHORT | FROZEN),
            Row("the steadiest checkpoint, encoder frozen", "simulation_amazon", STEADIEST | FROZEN),
            Row("supervised", "amazon_forest", SMALL | {"loop.steps": 100, "loop.check": 25}),
        ),
        without_calibration,
        figures=("mIoU", "IoU non-forest", "IoU forest"),
        seeds=3,
    ),
    "buildings": Table(
        "Buildings of Kampala",
        (
            Row("watershed, blocks of both towns", "buildings"),
            *(Row(f"watershed, blocks {k} of Kampala", "buildings", {"split.seed": k} | BESIDE) for k in range(3)),
            *(
                Row(f"the same without Banepa, blocks {k}", "buildings", {"split.seed": k, "data": [KAMPALA], "loop.steps": 300})
                for k in range(3)
            ),
            Row("Mask R-CNN, blocks 0", "buildings_mask_rcnn"),
        ),
        objects,
    ),
    "cities": Table(
        "Buildings of other cities",
        (
            Row("unet, ImageNet", "buildings_many_cities"),
            Row("EfficientNet-Lite1, 1500 steps of 6 chips of 320 px", "buildings_many_cities", CITIES_LONG | LITE1),
        ),
        by_city,
    ),
    "joplin": Table(
        "Buildings of Joplin",
        (Row("boundaries, distances, watershed", "joplin"), Row("Mask R-CNN", "joplin_mask_rcnn")),
        objects,
    ),
    "transfer": Table(
        "Transfer to forest in the Amazon",
        (
            Row("random weights", "amazon_forest", SMALL | {"init": {}}),
            Row("ImageNet, frozen encoder, new decoder", "amazon_forest", SMALL | {"init.encoder_rate": 0}),
            Row("ImageNet, fine-tuned", "amazon_forest", SMALL),
            Row("ImageNet, slower by layer", "amazon_forest", SMALL | {"init.encoder_rate": 1.0, "init.layer_decay": 0.6}),
            Row("ImageNet, gradually unfrozen", "amazon_forest", SMALL | {"init.unfreeze": 0.5}),
        ),
        figures=("mIoU", "IoU non-forest", "IoU forest"),
    ),
    "forgetting": Table(
        "Fine-tuned to another region",
        (
            Row("before", "old_region"),
            Row("fine-tuned", "new_region", after="before"),
            Row("distillation (LwF)", "new_region", {"keep.distill": 1.0}, after="before"),
            Row("elastic weights (EWC)", "new_region", {"keep.ewc": 1.0}, after="before"),
            Row("rehearsal of a quarter", "new_region", {"keep.rehearse": 0.25}, after="before"),
        ),
        by_region,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--seeds", type=int, help="trainings of each row")
    parser.add_argument("--set", dest="extra", action="append", default=[], help="change a value of every recipe")
    args = parser.parse_args()
    for name in args.tables:
        PREPARE.get(name, lambda: None)()
        table = TABLES[name]
        print(printed(name, table, args.seeds or table.seeds, args.extra), end="\n\n")


if __name__ == "__main__":
    main()
