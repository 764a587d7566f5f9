"""Counts the way of a recipe through ``geoseg train``: what one has to read, in order, from the command to the first step.

    python benchmarks/way_of_a_recipe.py [--list]

A stop is a function of ``geoseg`` or ``pipeline`` that is entered, each once, helper closures and generated methods aside. A
climb is a stop of ``pipeline`` right after one of ``geoseg``: whoever follows the way goes back up. Stops of the training are
those of the command, of ``pipeline/train`` and of ``geoseg/training``; the others open scenes and build the network, which
are ways of their own, walked by other verbs, too.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

import numpy as np
import rasterio
from rasterio.transform import from_origin

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """
name = "toy"
description = "a toy"
bands = ["1"]
classes = [{name = "dark", color = "#000000"}, {name = "bright", color = "#ffffff"}]

[[data]]
images = ["images"]
labels = "labels"

[split]
val = 0.34

[network]
architecture = "unet-2015"
parameters = { width = 4, depth = 2, padding = "same", batch_norm = true }

[sample]
chip = 32
batch = 2

[loop]
steps = 2
check = 2
device = "cpu"
"""
UNET_2015, UNET = RECIPE[RECIPE.index("architecture") : RECIPE.index("[sample]")], 'architecture = "unet"\n\n'
ADDED = """
[[data]]
images = ["target"]
role = "target"

[augment]
scale = 0.2
gain = 0.1
noise = 0.1

[loss]
border = 2.0
balance = "inverse"

[adapt]
style = "histogram"
pseudo = 0.5
light = 0.1

[keep]
ewc = 1.0
rehearse = 0.25
old = [{ images = ["images"], labels = "labels", only = ["scene0"] }]

[tasks]
boundary = 1.0
"""
LOOP = "geoseg.training.loop.fit"
TRAINING = ("pipeline.cli.train", "pipeline.config", "pipeline.train", "geoseg.training")


class _ArrivedError(BaseException):
    """The first step is about to be trained."""


@dataclass(slots=True)
class Way:
    """The stops of a recipe, in order."""

    stops: dict[CodeType, str] = field(default_factory=dict)

    def watch(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note a function that is entered; for ``sys.setprofile``."""
        if event != "call":
            return
        code = frame.f_code
        module = str(frame.f_globals.get("__name__", ""))
        # Bodies of classes run at import; what dataclasses and closures are made of has no line that one reads.
        written = code.co_filename.startswith(str(ROOT)) and code.co_flags & inspect.CO_OPTIMIZED
        helper = "<" in code.co_qualname or (code.co_name.startswith("__") and code.co_name != "__call__")
        if module.startswith(("geoseg.", "pipeline.")) and written and not helper:
            self.stops.setdefault(code, f"{module}.{code.co_qualname}")
        if code.co_qualname == "TrainingModule.training_step":
            raise _ArrivedError

    def of_training(self) -> list[str]:
        """Those of the training alone."""
        return [stop for stop in self.stops.values() if stop.startswith(TRAINING)]


def climbs(stops: list[str]) -> int:
    """How often one goes from the library back up into the pipeline."""
    return sum(a.startswith("geoseg.") and b.startswith("pipeline.") for a, b in pairwise(stops))


def write_scenes(folder: Path) -> None:
    """Three labelled scenes of two classes that differ in brightness, and one without labels."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels", "target"):
        (folder / name).mkdir()
    for number in range(4):
        codes = np.kron(rng.integers(0, 2, (16, 16)), np.ones((8, 8))).astype(np.uint8)
        image = np.clip(60 + 80 * codes + 20 * rng.standard_normal(codes.shape), 1, 255).astype(np.uint8)
        place = {"crs": "EPSG:32633", "transform": from_origin(5e5 + 2e3 * number, 5e6, 1, 1)}
        given = {"images": image, "labels": codes} if number < 3 else {"target": image}
        for kind, values in given.items():
            path = folder / kind / f"scene{number}.tif"
            with rasterio.open(path, "w", driver="GTiff", height=128, width=128, count=1, dtype="uint8", **place) as file:
                file.write(values, 1)


def walk(text: str) -> Way:
    """The way of one recipe."""
    from pipeline.cli.train import command

    way = Way()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder)
        (folder / "train.toml").write_text(text, encoding="utf-8")
        threading.setprofile(way.watch)
        sys.setprofile(way.watch)
        try:
            command.main([str(folder / "train.toml"), "--out", str(folder / "model"), "-q"], standalone_mode=False)
        except _ArrivedError:
            pass
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
    return way


def main() -> None:
    """Print the counts."""
    for name, text in (
        ("a plain recipe", RECIPE),
        ("one with all of adaptation and keeping", RECIPE.replace(UNET_2015, UNET) + ADDED),
    ):
        way = walk(text)
        every, own = list(way.stops.values()), way.of_training()
        above = sum(stop.startswith("pipeline.train.") for stop in own)
        print(
            f"{name}: {len(own)} stops of the training, {own.index(LOOP) + 1} of them up to the loop, {above} in "
            f"pipeline/train, {climbs(own)} climbs; with scenes and network {len(every)} stops, {climbs(every)} climbs"
        )
        if "--list" in sys.argv:
            print(*(f"    {stop}" for stop in every), sep="\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
