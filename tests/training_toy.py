"""A small training that a test can kill: ``python training_toy.py FOLDER [options as JSON]``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geoseg.codes import UNLABELLED
from geoseg.georeference import Georeference
from geoseg.training.data.chips import Chip
from geoseg.windows import Window

STEPS, CHECK = 24, 4


@dataclass
class Patches:
    """Patches of two classes that differ in brightness; every read is the same."""

    name: str
    seed: int
    height: int = 96
    width: int = 128
    georeference: Georeference | None = None

    def read(self, window: Window) -> Chip:
        from support import patchy

        codes = patchy(self.height, self.width, 2, seed=self.seed, size=6)
        image = (60 + 80 * codes + 30 * np.random.default_rng(self.seed).standard_normal(codes.shape)).astype(np.float32)
        whole = Window.of((self.height, self.width))
        inside = window & whole
        pixels, labels = np.zeros((1, *window.shape), np.float32), np.full(window.shape, UNLABELLED, np.uint8)
        valid = np.zeros(window.shape, np.bool_)
        if inside is not None:
            to = inside.slices_in(window)
            pixels[(0, *to)], labels[to], valid[to] = image[inside.slices], codes[inside.slices], True
        return Chip(pixels, valid, labels)


def main(folder: Path, options: dict[str, Any], watchers: Sequence[Any] = ()) -> None:
    """Train; with ``record``, the keys of all chips go to a file a process that trains, in the order in which they are read."""
    import torch

    from geoseg.training.curve import Curve
    from geoseg.training.data.check_windows import Loaders, check_loader
    from geoseg.training.data.loaders import Preparation, Reading, training_loader
    from geoseg.training.data.samplers import AreaSampler
    from geoseg.training.loop import Watching, fit
    from geoseg.training.module import Descent, TrainingModule
    from geoseg.training.training_plan import LearningRates, LoopSettings

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Dropout2d(0.2),
        torch.nn.Conv2d(8, 2, 1),
    )
    sources = [Patches(f"scene {k}", k) for k in range(3)]

    class Recorded(Preparation):
        def __call__(self, source: Any, ref: Any) -> Any:
            with (folder / f"chips-{os.environ.get('LOCAL_RANK', '0')}.txt").open("a") as file:
                file.write(f"{ref.key}\n")
            return super().__call__(source, ref)

    preparation = (Recorded if options.get("record") else Preparation)(mean=(100.0,), stddev=(50.0,), size=32)

    def spoil(network: torch.nn.Module, step: int) -> None:
        if step >= options.get("spoil_after", STEPS):
            with torch.no_grad():
                network[-1].weight.neg_()

    module = TrainingModule(
        network,
        network,
        classes=2,
        sigmoid=False,
        loss=lambda s, y, _: torch.nn.functional.cross_entropy(s, y, ignore_index=UNLABELLED),
        descent=Descent(
            [{"params": list(network.parameters()), "factor": 1.0}],
            LearningRates(options.get("rate", 1e-2), STEPS),
            0.01,
            before_step=spoil,
        ),
    )
    loader = training_loader(
        sources[:2],
        AreaSampler(sources[:2], 32, 7, 2),
        preparation,
        batches=CHECK,
        size=4,
        reading=Reading(options.get("workers", 0)),
    )
    checks = check_loader(
        sources, [(2, Window.of((96, 64))), (2, Window.at((0, 64), (96, 64)))], preparation, context=8, stride=4
    )
    fit(
        module,
        Loaders({"labelled": loader}, checks),
        folder / "checkpoints",
        LoopSettings(
            steps=options.get("steps", STEPS),
            epoch=CHECK,
            seed=7,
            average=0.9,
            clip=1.0,
            device="cpu",
            devices=options.get("devices", 1),
        ),
        Watching([Curve(folder / "curve.csv", ["a", "b"]), *watchers], progress=False),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
