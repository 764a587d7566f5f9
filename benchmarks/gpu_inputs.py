"""What ``bench_gpu.py`` measures on: sizes, networks and scenes, all made where they are measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import models
from data import four_bands, frontier, mirrored, with_infrared

if TYPE_CHECKING:
    from geoseg.models.model_folder import Model

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large everything is, in pixels."""

    source: int
    """Side of the procedural scene that is mirrored."""
    scene: int
    """Side of the scene of four bands in 16 bits."""
    forest: int
    """Side of the scene for amazon-forest."""
    objects: int
    """Side of the scene for Mask R-CNN."""
    naive: tuple[int, ...]
    """Sides of the part of the scene that the naive script gets, from the largest; the first whose time is there is taken."""
    tile: int
    """Side of a tile."""
    halo: int
    """Context around a tile."""
    chunks: tuple[int, int]
    """Sides of a chunk: the usual one, and another that is to give the same bytes."""
    batch: int
    """Tiles a batch of the network alone."""
    seconds: float
    """How long a rate is measured."""


FULL = Sizes(4096, 10980, 4096, 2048, (10980, 4096), 1024, 64, (4096, 2048), 8, 2.0)
SMALL = Sizes(512, 700, 512, 256, (700, 512), 256, 32, (512, 256), 1, 0.3)


def sizes(*, small: bool) -> Sizes:
    """The sizes of a GPU, or those that two cores go through in a minute."""
    return SMALL if small else FULL


def model_of(name: str, *, small: bool) -> str:
    """The model folder of a network, or its name where it is shipped."""
    if name == "amazon-forest":
        return name
    own = {"unet-resnet18": f"unet-resnet18-{SMALL.source}", "mask-rcnn": "mask-rcnn-small"} if small else {}
    return str(models.folder_of(own.get(name, name)))


def scene_of(name: str, *, small: bool) -> Path:
    """The scene on which a network runs."""
    size = sizes(small=small)
    if name == "amazon-forest":
        return models.DATA / f"frontier_{size.forest}.tif"
    if name == "mask-rcnn":
        return models.DATA / f"frontier_{size.objects}.tif"
    return models.DATA / f"mirrored_{size.scene}_of_{size.source}.tif"


def makers(*, small: bool) -> Mapping[str, Callable[[], Any]]:
    """How the inputs are made, by name; the names of one group go one after the other, and groups side by side."""
    size = sizes(small=small)
    return {
        "four bands": lambda: four_bands(size.source),
        "scene": lambda: mirrored(size.scene, size.source),
        "unet-resnet18": lambda: _after_scene(size.source),
        "unet-resnet50": models.unet_resnet50,
        "mask-rcnn": lambda: models.mask_rcnn(small=small),
        "forest": lambda: frontier(size.forest),
        "objects": lambda: frontier(size.objects),
    }


GROUPS = (("four bands", "scene"), ("mask-rcnn", "unet-resnet18"), ("unet-resnet50",), ("objects", "forest"))
"""What is made by one process each."""
SMALL_GROUPS = (("four bands", "scene", "objects", "forest", "unet-resnet18", "mask-rcnn"),)
"""What is made where it is to be small: on few cores, imports are most of it. ResNet-50 is the same code as ResNet-18."""


def _after_scene(side: int) -> Path:
    """Another process makes the scene that this network is fitted to."""
    path = models.DATA / f"four_bands_{side}.tif"
    while not path.is_file():
        time.sleep(POLL_S)
    return models.unet_resnet18(side)


def when_made(name: str, *, small: bool) -> Model:
    """The model of a network, once another process has made it."""
    from geoseg.models.model_folder import load_model

    model = model_of(name, small=small)
    # The text is written last.
    while name != model and not (Path(model) / "README.md").is_file():
        time.sleep(POLL_S)
    return load_model(model)


def tile_of(bands: int, side: int) -> Any:
    """(bands, side, side): a tile of the procedural scene, in 8 bits, or with near infrared in 16."""
    from geoseg.procedural import Frontier
    from geoseg.windows import Window

    rgb, _ = Frontier(4096, 4096, collar=False).window(Window.at((600, 600), (side, side)))
    return with_infrared(rgb, 0) if bands == 4 else rgb
