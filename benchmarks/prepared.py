"""Training data of a recipe in one small file: whole scenes as arrays, how they are divided, and the weights to begin with.

A zip archive: ``facts.json``, an array a file, and ``weights.safetensors`` in 16 bits. Scenes are not cut into chips, which
would overlap: chips are windows of them. Values are kept as they are stored, row by row as differences, which LZMA likes.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.georeference import Georeference
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.training.data.labelled import outside, padded
from geoseg.training.data.splits import LeakError, Without
from geoseg.windows import Window
from pipeline.files.atomic import atomic_path
from pipeline.train.data import TrainingData, open_data
from pipeline.train.recipe import Recipe

FACTS, WEIGHTS = "facts.json", "weights.safetensors"
PARTS = ("image", "valid", "labels", "objects")
PLACE = re.compile(r"[^.]+")
"""What scenes of one place have in common: their name up to the first dot."""


@dataclass(frozen=True, eq=False)
class ArrayScene:
    """A labelled scene in memory."""

    name: str
    arrays: Mapping[str, NDArray[Any]]
    """By ``PARTS``; scenes whose labels don't tell objects apart have no objects."""
    georeference: Georeference | None = None

    @property
    def height(self) -> int:
        """Rows."""
        return self.arrays["labels"].shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.arrays["labels"].shape[1]

    def read(self, window: Window) -> Chip:
        """The chip of a window."""
        inside = window & Window.of((self.height, self.width))
        if inside is None:
            return outside(len(self.arrays["image"]), 0, window.shape, objects="objects" in self.arrays)
        parts = {name: self.arrays[name][(..., *inside.slices)].copy() for name in PARTS if name in self.arrays}
        return padded(Chip(**(parts | {"image": parts["image"].astype(np.float32)})), inside, window)


@dataclass(frozen=True)
class Prepared:
    """What a file of prepared data holds."""

    document: dict[str, Any]
    """The recipe as TOML has it."""
    data: TrainingData
    weights: bytes | None
    """safetensors to begin with."""


def prepare(document: dict[str, Any], folder: Path, path: Path) -> dict[str, Any]:
    """Write the data of a recipe whose paths are relative to a folder; says what was written.

    Raises:
        LeakError: A place is on both sides of the split.
        ConfigError: The weights to begin with are not there.
    """
    recipe = Recipe.parse(document).beside(folder)
    data = open_data(recipe)
    check_places(data)
    bases: dict[str, ChipSource] = {}
    for source in (*data.training, *data.validation):
        bases.setdefault(source.name, base_of(source))
    names = list(bases)
    facts = {
        "recipe": document,
        "scenes": [{"name": n, "place": place_of(n), "size": [b.height, b.width]} for n, b in bases.items()],
        "training": [{"scene": names.index(s.name), "held": held_of(s)} for s in data.training],
        "validation": [names.index(s.name) for s in data.validation],
        "areas": [[k, *box_of(window)] for k, window in data.areas],
        "gsd_m": data.gsd_m,
        "fingerprint": data.fingerprint,
        "notes": data.notes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_LZMA) as archive:
        add(archive, FACTS, json.dumps(facts, indent=1, ensure_ascii=False).encode())
        for k, source in enumerate(bases.values()):
            for name, array in arrays_of(source, recipe).items():
                add(archive, f"{k}-{name}.npy", npy(differences(array) if name == "image" else array))
        if recipe.init.weights is not None:
            add(archive, WEIGHTS, beginning(recipe))
    return {
        "scenes": len(bases),
        "px": sum(b.height * b.width for b in bases.values()),
        "places to train on": len(data.training),
        "places held out": len(data.areas),
        "MB": round(path.stat().st_size / 1e6, 2),
    }


def load(path: Path) -> Prepared:
    """Read a file of prepared data; every area that is held out is a validation scene of its own, by its place.

    Raises:
        ConfigError: It is not such a file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(archive.read(FACTS))
            scenes = [scene_of(archive, k, scene["name"]) for k, scene in enumerate(facts["scenes"])]
            weights = archive.read(WEIGHTS) if WEIGHTS in archive.namelist() else None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: is no file of prepared data ({error}); make it with --prepare") from error
    training: list[ChipSource] = []
    for entry in facts["training"]:
        scene, held = scenes[entry["scene"]], entry["held"]
        training.append(
            Without(scene, [Window.at(tuple(box[:2]), tuple(box[2:])) for box in held["windows"]], held["margin"])
            if held
            else scene
        )
    areas = [(scenes[facts["validation"][k]], Window.at(tuple(box[:2]), tuple(box[2:]))) for k, *box in facts["areas"]]
    validation = [ArrayScene(area_name(scene, window), scene.arrays) for scene, window in areas]
    data = TrainingData(
        tuple(training),
        tuple(validation),
        tuple((k, window) for k, (_, window) in enumerate(areas)),
        (),
        (),
        facts["gsd_m"],
        facts["fingerprint"],
        tuple(facts["notes"]),
    )
    return Prepared(facts["recipe"], data, weights)


def place_of(name: str) -> str:
    found = PLACE.match(name)
    return found.group() if found else name


def check_places(data: TrainingData) -> None:
    """Refuse a split in which training sees a place of a scene, or a pixel of a block, that is held out."""
    divided = {source.name: source for source in data.training}
    places = {place_of(source.name): source.name for source in data.training}
    for k, window in data.areas:
        name = data.validation[k].name
        if name in divided and divided[name].read(window).valid.any():
            raise LeakError(f"{name}: rows and columns {window.slices} are held out, and training sees them")
        if name not in divided and place_of(name) in places:
            raise LeakError(f"{name}, which is held out, is of the same place as {places[place_of(name)]}; hold out both")


def base_of(source: ChipSource) -> ChipSource:
    return source.source if isinstance(source, Without) else source


def held_of(source: ChipSource) -> dict[str, Any] | None:
    if not isinstance(source, Without):
        return None
    margin = source.held[0].row_off - source.hidden[0].row_off
    return {"windows": [box_of(window) for window in source.held], "margin": margin}


def box_of(window: Window) -> list[int]:
    return [window.row_off, window.col_off, window.height, window.width]


def area_name(scene: ArrayScene, window: Window) -> str:
    """The scene's name where all of it is held out, else with the block."""
    if window == Window.of((scene.height, scene.width)):
        return scene.name
    return f"{scene.name} {window.row_off}-{window.row_stop} x {window.col_off}-{window.col_stop}"


def arrays_of(source: ChipSource, recipe: Recipe) -> dict[str, NDArray[Any]]:
    """The arrays of a scene, values in the recipe's data type where that holds them."""
    chip = source.read(Window.of((source.height, source.width)))
    stored = chip.image.astype(recipe.data_type)
    image = stored if (stored == chip.image).all() else chip.image
    found = {"image": image, "valid": chip.valid, "labels": chip.labels}
    return found | ({"objects": chip.objects} if chip.objects is not None else {})


def scene_of(archive: zipfile.ZipFile, number: int, name: str) -> ArrayScene:
    there = set(archive.namelist())
    arrays = {part: array(archive.read(f"{number}-{part}.npy")) for part in PARTS if f"{number}-{part}.npy" in there}
    return ArrayScene(name, arrays | {"image": sums(arrays["image"])})


def differences(image: NDArray[Any]) -> NDArray[Any]:
    """Of whole numbers, each less the one to its left, modulo their range."""
    if image.dtype.kind == "f":
        return image
    return np.diff(image, axis=-1, prepend=image.dtype.type(0))


def sums(image: NDArray[Any]) -> NDArray[Any]:
    """What ``differences`` was made of."""
    return image if image.dtype.kind == "f" else np.cumsum(image, axis=-1, dtype=image.dtype)


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def array(data: bytes) -> NDArray[Any]:
    found: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Without a date, so that the same data gives the same file."""
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_LZMA)


def beginning(recipe: Recipe) -> bytes:
    """The tensors of a checkpoint that the recipe's network takes, in 16 bits."""
    from safetensors.torch import save

    from geoseg.models.networks.build import build_network
    from geoseg.models.networks.config import NetworkConfig
    from geoseg.models.networks.placement import find_places, input_convolutions
    from geoseg.models.weights.checkpoints import read_checkpoint

    path = Path(str(recipe.init.weights))
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; make it with python benchmarks/imagenet_weights.py")
    given = recipe.network
    network = build_network(
        NetworkConfig(given.architecture, given.encoder, len(recipe.bands), len(recipe.classes), given.parameters)
    )
    state = read_checkpoint(path)
    found = find_places(network.state_dict(), state, input_convolutions(network, len(recipe.bands), 1), whole=True)
    return save(
        {name: state[name].half() if state[name].is_floating_point() else state[name] for name in {*found.places.values()}}
    )


def merged(document: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A nested document with others laid over it."""
    found = dict(document)
    for change in changes:
        for key, value in change.items():
            inner = found.get(key)
            found[key] = merged(inner, [value]) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return found
