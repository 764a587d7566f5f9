"""Parts of scenes, drawn at random, as a model takes them: what networks in integers and adopted ones are judged on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F32, U8
from geoseg.codes import NODATA
from geoseg.errors import ConfigError
from geoseg.grid import round_up
from geoseg.inference.normalization import Normalization
from geoseg.inference.reading import open_reader
from geoseg.labels.labels import Labels
from geoseg.models.model_folder import Model
from geoseg.scenes.reader import Pixels
from geoseg.windows import Window
from pipeline.calibrate.labelled_scenes import given_scenes, labels_of
from pipeline.config.sections import Config
from pipeline.plan.make import make_plan
from pipeline.plan.plan import Plan
from pipeline.train.label_files import pair_labels

__all__ = ["CROP", "Crop", "OpenedScene", "drawn", "opened"]

CROP = 512
"""Side of the parts of images, px."""
LEAST_DATA = 0.5
"""Share of a part that is to hold data."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenedScene:
    """A scene as the model takes it, and its labels."""

    plan: Plan
    labels: Labels | None


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A part of a scene."""

    pixels: Pixels
    normalization: Normalization
    labels: U8 | None

    def image(self) -> F32:
        """(1, C, H, W), as the network takes it."""
        data = self.pixels.data
        out = np.empty((1, *data.shape), np.float32)
        self.normalization.apply(data, self.pixels.valid, out[0])
        return out


def opened(
    model: Model, images: Sequence[str], labels: Sequence[str], config: Config, column: str | None = None
) -> list[OpenedScene]:
    """Scenes of files, folders and globs, with their labels where there are any.

    Raises:
        ConfigError: There is none, or labels do not pair with them.
        SceneError: One can't be read, or is not what the model takes.
    """
    found = given_scenes(images, config)
    if not found:
        raise ConfigError("images: no scene was found; give files, folders or globs of rasters")
    pairs = pair_labels(found, labels) if labels else [(ref, None) for ref in found]
    scenes = []
    for ref, path in pairs:
        plan = make_plan(ref, model, config)
        scenes.append(OpenedScene(plan, None if path is None else labels_of(path, plan, model.card, column)))
    return scenes


def drawn(scenes: Sequence[OpenedScene], stride: int, count: int, seed: int) -> Iterator[Crop]:
    """Parts with data, of all scenes in turn, in a random order that the seed gives."""
    rng = np.random.default_rng(seed)
    waiting = []
    for scene in scenes:
        windows = _places(scene.plan, stride)
        waiting.append((scene, [windows[i] for i in rng.permutation(len(windows))]))
    left = count
    while left and waiting:
        for item in list(waiting):
            scene, windows = item
            crop = _next(scene, windows)
            if crop is None:
                waiting.remove(item)
                continue
            yield crop
            left -= 1
            if not left:
                return


def _places(plan: Plan, stride: int) -> list[Window]:
    """Windows of ``CROP`` px in the chunks that may hold data, smaller in scenes that are."""
    grid = plan.grid
    height, width = (min(round_up(CROP, stride), side // stride * stride) for side in (grid.scene.height, grid.scene.width))
    if not height or not width:
        return []
    cores = [grid.chunk_at(index).core for index in plan.active]
    found = {
        (min(row, grid.scene.height - height), min(col, grid.scene.width - width))
        for core in cores
        for row in range(core.row_off, core.row_off + core.height, height)
        for col in range(core.col_off, core.col_off + core.width, width)
    }
    return [Window(row_off=row, col_off=col, height=height, width=width) for row, col in sorted(found)]


def _next(scene: OpenedScene, windows: list[Window]) -> Crop | None:
    """The next part that holds enough data, None behind the last one; takes its window off the list."""
    plan = scene.plan
    with open_reader(plan.scene, plan.bands, threads=2, cache_bytes=plan.cache_bytes) as reader:
        while windows:
            window = windows.pop()
            pixels = reader.read(window)
            if pixels.valid.mean() < LEAST_DATA:
                continue
            labels = None
            if scene.labels is not None:
                labels = scene.labels.read(window)[0].copy()
                labels[~pixels.shown] = NODATA
            return Crop(pixels, plan.normalization, labels)
    return None
