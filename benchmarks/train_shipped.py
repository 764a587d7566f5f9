"""Train a shipped model in minutes of a GPU: several seeds and recipes in turn, over as many calls as it takes.

    python benchmarks/imagenet_weights.py
    python benchmarks/train_shipped.py amazon-forest --prepare .gpu/amazon-forest.zip      once, where the data is
    python benchmarks/train_shipped.py amazon-forest --minutes 9 --seeds 0 1 2             where the GPU is, again and again
    python benchmarks/train_shipped.py amazon-forest --minutes 9 --recipes plain large --set loop.rate=2e-3

It is the training of ``geoseg train``: the recipe of benchmarks/recipes, but all scenes lie in the memory of the device,
where chips are cut and augmented, and on a GPU it computes in bf16. What is held out by the recipe chooses the checkpoint and
judges, place by place; the scenes of the published figures take no part. Each training gets its share of the minutes, goes
on from its last checkpoint in the next call, and becomes a model folder in --out. What comes home, to $OUT or --bring, is a
tar file a training and the report, in at most eight files of at most 16 MiB; ``--from FILES`` puts them back into --out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from brought import REPORT, bring, unpack
from prepared import Prepared, load, merged, prepare

from geoseg.errors import GeosegError
from geoseg.models.model_folder import CARD
from geoseg.training.loop import LAST, Deadline, OutOfTimeError
from pipeline.config.document import read_toml
from pipeline.files.atomic import write_json
from pipeline.train.recipe import Recipe
from pipeline.train.run import CHECKPOINTS, CURVE, VALIDATION, train

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks" / "recipes"
MODELS = {"amazon-forest": "amazon_forest.toml", "buildings": "buildings.toml"}
"""The recipe of each shipped model."""
RECIPES = {
    "plain": "",
    "large": "sample.batch = 32\nloop.steps = 400\nloop.check = 50",
    "long": "sample.batch = 32\nloop.steps = 1200\nloop.check = 100\nloop.average = 0.99",
}
"""What is changed in that recipe, as TOML."""
SMALL = "sample.chip = 64\nsample.batch = 2\nloop.steps = 4\nloop.check = 2"
"""To try whether it runs."""
PACE = "training/pace.csv"
CLOSING_S = 40.0
"""Seconds that saving and judging a model take until one was measured."""
LEAST_S = 5.0
"""Less time is not worth a start."""


@dataclass(frozen=True)
class Training:
    """A recipe with a seed."""

    name: str
    seed: int
    folder: Path
    recipe: Recipe

    @property
    def finished(self) -> bool:
        """Whether its model folder is whole."""
        return (self.folder / CARD).is_file() and (self.folder / VALIDATION).is_file()


class Pace(lightning.Callback):
    """Notes steps and seconds of each interval between two checks, without the checks; says them.

    Args:
        path: A CSV file, to which is added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since, self._step = 0.0, 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """An interval begins."""
        self._since, self._step = self._now(pl_module), trainer.global_step

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """It ends."""
        steps, seconds = trainer.global_step - self._step, self._now(pl_module) - self._since
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"{trainer.global_step},{steps},{seconds:.4f}\n")

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say the figures."""
        del pl_module
        print(f"    step {trainer.global_step}: mIoU {float(trainer.callback_metrics['val/miou']):.4f}", flush=True)

    @staticmethod
    def _now(module: lightning.LightningModule) -> float:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        return time.monotonic()


def trainings(arguments: argparse.Namespace, prepared: Prepared, device: str) -> list[Training]:
    """Every recipe with every seed; the first seed of all first."""
    given = [tomllib.loads(text) for text in arguments.set]
    size = [tomllib.loads(SMALL)] if arguments.small else []
    found = []
    for seed in arguments.seeds:
        for name in arguments.recipes:
            fixed: dict[str, Any] = {"sample": {"workers": 0}, "loop": {"seed": seed, "device": device}}
            if device == "gpu":
                fixed["loop"]["precision"] = "bf16"
            if prepared.weights is not None:
                fixed["init"] = {"weights": str(beginning(arguments.out, prepared.weights))}
            recipe = Recipe.parse(merged(prepared.document, [tomllib.loads(RECIPES[name]), *size, fixed, *given]))
            found.append(
                Training(f"{arguments.model}-{name}-{seed}", seed, arguments.out / f"{arguments.model}-{name}-{seed}", recipe)
            )
    return found


def beginning(out: Path, weights: bytes) -> Path:
    """The weights to begin with as a file."""
    path = out / "begin.safetensors"
    if not path.is_file() or path.read_bytes() != weights:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(weights)
    return path


def run(todo: Sequence[Training], prepared: Prepared, end: float, home: Path | None) -> None:
    """Train in turn, each within its share of the time that is left; what is finished comes home at once."""
    closing = CLOSING_S
    for number, one in enumerate(todo):
        share = (end - time.monotonic()) / (len(todo) - number)
        if share - closing < LEAST_S:
            print(f"{one.name}: no time left ({share:.0f} s, of which saving and judging take {closing:.0f})", flush=True)
            continue
        print(f"{one.name}: {share:.0f} s", flush=True)
        began = time.monotonic()
        watch = Closing()
        try:
            train(
                one.recipe,
                one.folder,
                progress=False,
                data=prepared.data,
                resident=True,
                engine="onnx",
                callbacks=[Pace(one.folder / PACE), Deadline(share - closing), watch],
            )
        except OutOfTimeError as error:
            print(f"    {error}", flush=True)
        else:
            closing = max(closing / 2, 1.3 * watch.seconds())
            print(f"    done after {time.monotonic() - began:.0f} s, {watch.seconds():.0f} of them to save and judge", flush=True)
        if home is not None:
            bring_home(todo, home)


class Closing(lightning.Callback):
    """Measures what comes after the last step."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Training has ended."""
        del trainer, pl_module
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Since then; all since the start where nothing was trained."""
        return time.monotonic() - self._since


def bring_home(every: Sequence[Training], home: Path) -> dict[str, list[str]]:
    """Finished trainings, the best first; then what others go on from."""
    begun = [one for one in every if one.finished or (one.folder / CHECKPOINTS / LAST).is_file()]
    ranked = sorted(begun, key=lambda one: -validation_of(one)["miou"] if one.finished else 1.0)
    return bring([one.folder for one in ranked], home)


def validation_of(one: Training) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((one.folder / VALIDATION).read_text(encoding="utf-8"))
    return found


def report_of(one: Training) -> dict[str, Any]:
    """What is known of one training."""
    recipe = one.recipe
    found: dict[str, Any] = {
        "name": one.name,
        "seed": one.seed,
        "finished": one.finished,
        "steps": 0,
        "of": recipe.loop.steps,
        "batch": recipe.sample.batch,
        "chip": recipe.sample.chip,
        "precision": recipe.loop.precision,
    }
    if (one.folder / CURVE).is_file():
        with (one.folder / CURVE).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found["curve"] = [{"step": int(row["step"]), "miou": float(row["val/miou"])} for row in rows]
        found |= {"steps": int(rows[-1]["step"]), "seconds": float(rows[-1]["seconds"])} if rows else {}
    if (one.folder / PACE).is_file():
        paces = [line.split(",") for line in (one.folder / PACE).read_text(encoding="ascii").split()]
        if paces:
            rate = statistics.median(int(steps) / float(seconds) for _, steps, seconds in paces)
            found |= {"steps_s": rate, "mpx_s": rate * recipe.sample.batch * recipe.sample.chip**2 / 1e6}
    if one.finished:
        validation = validation_of(one)
        found["miou"] = validation["miou"]
        found["iou"] = {row["class"]: row["iou"] for row in validation["classes"]}
        found["places"] = {row["scene"]: row["miou"] for row in validation["scenes"]}
        if "objects" in validation:
            found["objects"] = {key: validation["objects"][key] for key in ("f1", "precision", "recall", "ap50")}
    return found


def table(reports: Sequence[dict[str, Any]]) -> str:
    """A line a training."""
    lines = ["training | steps | steps/s | Mpx/s | s | mIoU | IoU by class | mIoU by place", "---|---|---|---|---|---|---|---"]
    for r in reports:
        numbers = [
            f"{r[key]:.{digits}f}" if key in r else "-"
            for key, digits in (("steps_s", 2), ("mpx_s", 1), ("seconds", 0), ("miou", 4))
        ]
        by_class, by_place = (
            ", ".join(f"{name} {value:.3f}" if value is not None else f"{name} -" for name, value in r.get(key, {}).items())
            or "-"
            for key in ("iou", "places")
        )
        objects = f"; objects F1 {r['objects']['f1']:.3f}" if r.get("objects") else ""
        lines.append(f"{r['name']} | {r['steps']} of {r['of']} | {' | '.join(numbers)} | {by_class}{objects} | {by_place}")
    return "\n".join(lines)


def machine(device: str) -> dict[str, Any]:
    """What it ran on."""
    return {
        "device": torch.cuda.get_device_name() if device == "gpu" else "cpu",
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "lightning": lightning.__version__,
        "python": platform.python_version(),
        "command": " ".join(sys.argv),
    }


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--prepare", type=Path, metavar="FILE", help="Write the data of the recipe into a file, and stop.")
    parser.add_argument("--data", type=Path, metavar="FILE", help="What --prepare wrote. [default: .gpu/MODEL.zip]")
    parser.add_argument("--minutes", type=float, default=9.0, help="For all trainings together. [default: 9]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="[default: 0]")
    parser.add_argument("--recipes", nargs="+", choices=sorted(RECIPES), default=["plain"], help="[default: plain]")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="Change the recipes: loop.rate=2e-3.")
    parser.add_argument("--small", action="store_true", help="Four steps of two small chips, to try whether it runs.")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    parser.add_argument("--out", type=Path, help="Folder of the model folders. [default: build/train_shipped/MODEL]")
    parser.add_argument("--bring", type=Path, help="Folder for what comes home. [default: $OUT]")
    parser.add_argument("--from", dest="files", type=Path, nargs="+", default=[], help="Tar files that came home, to go on from.")
    found = parser.parse_args(words)
    found.data = found.data or Path(".gpu") / f"{found.model}.zip"
    found.out = found.out or Path("build") / "train_shipped" / found.model
    found.bring = found.bring or (Path(os.environ["OUT"]) if os.environ.get("OUT") else None)
    return found


def main(words: Sequence[str] | None = None) -> int:
    began = time.monotonic()
    arguments = parsed(words)
    try:
        if arguments.prepare is not None:
            recipe = FOLDER / MODELS[arguments.model]
            facts = prepare(read_toml(recipe), FOLDER, arguments.prepare)
            print(f"{arguments.prepare}: {', '.join(f'{key} {value}' for key, value in facts.items())}")
            return 0
        if arguments.files:
            print(f"{arguments.out}: {', '.join(unpack(arguments.files, arguments.out))}")
        device = "gpu" if arguments.device == "auto" and torch.cuda.is_available() else "cpu"
        prepared = load(arguments.data)
        every = trainings(arguments, prepared, device)
        todo = [one for one in every if not one.finished]
        print(f"{machine(device)['device']}: {len(every) - len(todo)} of {len(every)} trainings are finished", flush=True)
        run(todo, prepared, began + 60 * arguments.minutes, arguments.bring)
        document: dict[str, Any] = {
            "model": arguments.model,
            "machine": machine(device),
            "trainings": [report_of(one) for one in every],
        }
        if arguments.bring is not None:
            document["files"] = bring_home(every, arguments.bring)
            write_json(arguments.bring / REPORT, document)
        write_json(arguments.out / REPORT, document)
        print(table(document["trainings"]))
    except (GeosegError, tomllib.TOMLDecodeError) as error:
        print(f"train_shipped: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
