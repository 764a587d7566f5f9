"""The data of a recipe: scenes with their labels, opened, divided, checked for leaks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import numpy as np

from geoseg.addresses import split_layer
from geoseg.codes import UNLABELLED
from geoseg.dates.stack import align, stacked
from geoseg.dialect import number_of
from geoseg.errors import ConfigError
from geoseg.labels.coco import Coco, mask_labels
from geoseg.labels.labels import corrected, open_labels
from geoseg.models.model_folder import file_hash
from geoseg.scenes.fingerprint import fingerprint
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from geoseg.scenes.sources import SceneRef, list_scenes
from geoseg.training.data.chips import ChipSource
from geoseg.training.data.labelled import LabelledImage, LabelledScene, Values
from geoseg.training.data.splits import Without, check_leaks, held_out_blocks, held_out_scenes
from geoseg.windows import Window
from pipeline.train.label_files import correction_labels, label_file
from pipeline.train.recipe import Recipe
from pipeline.train.recipe_data import ClassRecipe, DataRecipe
from pipeline.train.valued_scenes import valued_scene

__all__ = ["Area", "TrainingData", "images_of", "open_data", "open_sources"]

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
VALIDATION_SIDE = 1024
"""Rows and columns that are read at once."""
Area = tuple[int, Window]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All that a training reads."""

    training: tuple[ChipSource, ...]
    """Scenes to train on; what is held out of them can't be seen."""
    validation: tuple[ChipSource, ...]
    """Scenes to validate on."""
    areas: tuple[Area, ...]
    """Windows of the validation scenes: number of the scene, window."""
    target: tuple[ChipSource, ...]
    """Scenes without labels, to adapt to."""
    old: tuple[ChipSource, ...]
    """Scenes of the region that the network is not to forget."""
    gsd_m: float | None
    """Side of a pixel in metres, where all scenes agree to a tenth."""
    fingerprint: str
    """sha256 of the identity of all files, and of how they are divided."""
    notes: tuple[str, ...]
    """Warnings for the user."""

    @property
    def seen(self) -> tuple[ChipSource, ...]:
        """The scenes that the model is trained on, and those that choose it, each once; of divided ones what is trained on."""
        names = {source.name for source in self.training}
        return (*self.training, *(source for source in self.validation if source.name not in names))

    def describe(self) -> dict[str, str]:
        """In words."""
        pixels = sum(window.pixels for _, window in self.areas)
        return {
            "train": _summary(self.training),
            "validate": f"{_summary(self.validation)}, {pixels:,} px in {number_of(len(self.areas), 'area')}",
            "target": _summary(self.target) if self.target else "none",
            "old": _summary(self.old) if self.old else "none",
            "pixels of": f"{self.gsd_m:g} m" if self.gsd_m else "no common size",
            "fingerprint": self.fingerprint,
            "notes": "; ".join(self.notes) or "none",
        }


def _summary(sources: Sequence[ChipSource]) -> str:
    pixels = sum(source.height * source.width for source in sources)
    some = ", ".join(source.name for source in sources[:5])
    return f"{number_of(len(sources), 'scene')}, {pixels:,} px ({some}{', …' if len(sources) > 5 else ''})"


def open_data(recipe: Recipe) -> TrainingData:
    """Open all scenes and labels of a recipe, divide them, and check that nothing leaks.

    Raises:
        ConfigError: Something is missing, or what is validated on would be trained on.
        SceneError: A scene or its labels can't be read or don't fit.
    """
    opened = [(data, source) for data in recipe.data for source in open_sources(data, recipe)]
    old = tuple(source for data in recipe.keep.old for source in open_sources(data, recipe))
    names = [source.name for _, source in opened]
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"data: two scenes are named {twice}; give one table a prefix (data.prefix), or choose with only")
    divisible = [source for data, source in opened if data.role == "split"]
    training = [source for data, source in opened if data.role == "train"]
    validation = [source for data, source in opened if data.role == "val"]
    areas: list[Area] = [(k, Window.of((source.height, source.width))) for k, source in enumerate(validation)]
    apart: dict[str, Without] = {}
    split = recipe.split
    if divisible and split.by == "scene":
        held = held_out_scenes([source.name for source in divisible], split.val, split.seed) if split.val else frozenset()
        training += [source for k, source in enumerate(divisible) if k not in held]
        chosen = [source for k, source in enumerate(divisible) if k in held]
        areas += [(len(validation) + k, Window.of((source.height, source.width))) for k, source in enumerate(chosen)]
        validation += chosen
    for source in divisible if split.by == "block" else ():
        if not isinstance(split.val, float | int):
            raise ConfigError('split.val: with by = "block" it is a share, not names of scenes')
        blocks = held_out_blocks(source.height, source.width, split.val, split.block, split.seed)
        apart[source.name] = Without(source, blocks, split.margin)
        areas += [(len(validation), block) for block in blocks]
        training.append(apart[source.name])
        validation.append(source)
    if not training:
        raise ConfigError("data: no scene is left to train on")
    if not validation:
        raise ConfigError('data: nothing is held out to validate on; set split.val, or give [[data]] with role = "val"')
    check_leaks(training, validation, apart)
    sizes = [s.georeference.pixel_size(s.height, s.width) for _, s in opened if s.georeference is not None]
    known = [size for size in sizes if size]
    same = bool(known) and len(known) == len(opened) and max(known) <= 1.1 * min(known)
    notes = dict.fromkeys(f"{source.name}: {note}" for _, source in opened for note in getattr(source, "notes", ()))
    return TrainingData(
        tuple(training),
        tuple(validation),
        tuple(areas),
        tuple(s for data, s in opened if data.role == "target"),
        old,
        recipe.gsd_m or (float(f"{np.median(known):.3g}") if same else None),
        _fingerprint(recipe, [s for _, s in opened], areas),
        tuple(notes),
    )


def open_sources(data: DataRecipe, recipe: Recipe) -> list[ChipSource]:
    """The scenes of one table of a recipe, with their labels where it has any; refused as ``open_data`` refuses."""
    if data.corrections and (data.plain or data.labels is None):
        raise ConfigError("data.corrections: outrank labels of scenes on Earth: give labels, and no plain images")
    values = Values(recipe.bands, recipe.data_type, recipe.value_range, recipe.physical)
    codes = class_codes(recipe.classes)
    if data.plain:
        found: list[ChipSource] = [_plain(path, data, values, codes) for path in images_of(data)]
    else:
        found = [_scene(ref, data, recipe, values, codes) for ref in _scenes(data)]
    if not found:
        raise ConfigError(f"data.only: none of the images of {', '.join(data.images)} is named {', '.join(data.only or ())}")
    return found


def class_codes(classes: Sequence[ClassRecipe]) -> dict[str, int]:
    """Codes by the texts that stand for a class in labels."""
    codes: dict[str, int] = {}
    for code, entry in enumerate(classes):
        for text in entry.labels if entry.labels is not None else (code, entry.name):
            if str(text) in codes:
                raise ConfigError(f"classes: {text!r} stands for two classes")
            codes[str(text)] = code
    return codes


def _wanted(name: str, data: DataRecipe) -> bool:
    return data.only is None or any(name == pattern or fnmatch(name, pattern) for pattern in data.only)


def _scenes(data: DataRecipe) -> list[SceneRef]:
    refs, refused = list_scenes(data.images, option="data.images")
    for item in refused:
        if item.status == "failed":
            raise ConfigError(f"data.images: {item.reason}")
    return [ref for ref in refs if _wanted(ref.name, data)]


def _scene(ref: SceneRef, data: DataRecipe, recipe: Recipe, values: Values, codes: dict[str, int]) -> ChipSource:
    options = OpenOptions(assume_crs=data.assume_crs, resample=recipe.gsd_m if data.resample else None)
    scene = open_scene(ref.paths, data.prefix + ref.name, options, band_names=ref.band_names, told=ref.told)
    if data.later:
        others = [open_scene([str(path)], scene.name, options) for path in _later(Path(ref.paths[0]), data)]
        scene = stacked(align([scene, *others]), least=1 + len(others), flags=False)
    if recipe.regresses:
        return valued_scene(scene, ref, data, values)
    labels = None
    if data.labels is not None:
        path = label_file(Path(ref.paths[0]), ref.name, data)
        given = dict(codes)
        if data.column is None:
            given[""] = 1
        outside = UNLABELLED if data.outside == "unlabelled" else codes.get(str(data.outside))
        if outside is None:
            raise ConfigError(f"data.outside: {data.outside!r} is neither unlabelled nor a class: {', '.join(codes)}")
        labels = open_labels(
            str(path),
            scene.georeference if scene.georeference.crs is not None else None,
            scene.height,
            scene.width,
            given,
            column=data.column,
            outside=outside,
            ignore=data.ignore,
            all_touched=data.all_touched,
        )
        labels = corrected(labels, [correction_labels(path, scene, codes) for path in data.corrections])
    elif data.role != "target":
        raise ConfigError(f"data.labels: missing for {', '.join(data.images)}; only the role target goes without")
    return LabelledScene(
        scene,
        labels,
        values,
        chosen=data.bands,
        rescale=data.rescale,
        border=data.border,
        rasters=data.rasters,
    )


def images_of(data: DataRecipe) -> list[Path]:
    """The plain images of a table, by name."""
    found: list[Path] = []
    for text in data.images:
        path = Path(text)
        if path.is_dir():
            found += [p for p in path.iterdir() if p.suffix.lower() in IMAGES]
        elif path.is_file():
            found.append(path)
        else:
            matches = [p for p in path.parent.glob(path.name) if p.is_file()]
            if not matches:
                raise ConfigError(f"data.images: {text}: no such file or folder")
            found += matches
    chosen = [path for path in {*found} if _wanted(path.stem, data)]
    return sorted(chosen, key=lambda path: (len(path.stem), path.stem))


def _plain(path: Path, data: DataRecipe, values: Values, codes: dict[str, int]) -> LabelledImage:
    later = [str(one) for one in _later(path, data)]
    open_image = partial(LabelledImage, str(path), values=values, name=data.prefix + path.stem, chosen=data.bands, later=later)
    if data.labels is None:
        if data.role != "target":
            raise ConfigError(f"data.labels: missing for {', '.join(data.images)}; only the role target goes without")
        return open_image(labels=None)
    file = label_file(path, path.stem, data)
    if file.suffix.lower() == ".json":
        outside = UNLABELLED if data.outside == "unlabelled" else codes.get(str(data.outside), UNLABELLED)
        labels, objects = Coco.read(str(file)).labels(str(path), codes, outside)
        return open_image(labels=labels, objects=objects, border=data.border)
    return open_image(labels=mask_labels(str(file), codes), border=data.border)


def _later(path: Path, data: DataRecipe) -> list[Path]:
    """The same image at later dates."""
    found = []
    for folder in data.later:
        # A file stands for itself, where there is one image.
        other = Path(folder) / path.name if Path(folder).is_dir() else Path(folder)
        if not other.is_file():
            raise ConfigError(f"data.later: {other}: no such file; each image needs one of its name in {folder}")
        found.append(other)
    return found


def _fingerprint(recipe: Recipe, sources: Sequence[ChipSource], areas: Sequence[Area]) -> str:
    """sha256 over the data, not over where and when it lay: a copy on another machine has the same."""
    facts: list[object] = [[k, window.row_off, window.col_off, *window.shape] for k, window in areas]
    for source in sources:
        scene = getattr(source, "scene", None)
        images = scene.own_paths if scene is not None else [getattr(source, "path", ""), *getattr(source, "later", ())]
        facts.append([source.name, fingerprint(images, times=False)])
    for data in (*recipe.data, *recipe.keep.old):
        named = [split_layer(text) for text in (data.labels, data.ignore, *data.corrections, *data.rasters) if text is not None]
        paths = [path for path, _ in named]
        facts += [layer for _, layer in named if layer is not None]
        files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        facts.append([[file.name, file_hash(file)] for file in files if file.is_file()])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
