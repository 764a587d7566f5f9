"""Scenes of classical methods: the images of maps, and those to fit on, by a recipe or as images with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import ConfigError
from geoseg.labels.images import read_image
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from geoseg.scenes.sources import list_scenes
from geoseg.training.data.chips import ChipSource
from pipeline.evaluate.pairs import Classes
from pipeline.evaluate.settings import BaselineOptions, TruthOptions
from pipeline.train.data import images_of, open_data, open_sources
from pipeline.train.recipe import Recipe
from pipeline.train.recipe_data import ClassRecipe, DataRecipe

__all__ = ["BaselineScenes", "opened_scenes"]

RGB = ("red", "green", "blue")


@dataclass(frozen=True, slots=True, eq=False)
class BaselineScenes:
    """What classical methods read."""

    bands: tuple[str, ...]
    judged: tuple[ChipSource, ...]
    """Images of maps, without labels."""
    training: tuple[ChipSource, ...]
    """Labelled scenes to fit on; none where those of the maps serve."""


def opened_scenes(options: BaselineOptions, classes: Classes, reading: TruthOptions) -> BaselineScenes:
    """Open all images, with the labels of those to fit on.

    Raises:
        ConfigError: Something is missing, or classes differ.
        SceneError: A scene or its labels can't be read.
    """
    recipes = [text for text in options.train if text.lower().endswith(".toml")]
    if recipes and len(options.train) > 1:
        raise ConfigError(f"--baseline-train: {recipes[0]} is a recipe, which has all scenes to fit on; give nothing beside it")
    if recipes:
        recipe = _read(recipes[0], classes)
        given = recipe.data[0]
        shown = given.model_copy(
            update={
                "images": tuple(options.images),
                "labels": None,
                "role": "target",
                "only": None,
                "rasters": (),
                "corrections": (),
            }
        )
        return BaselineScenes(recipe.bands, tuple(open_sources(shown, recipe)), open_data(recipe).training)
    shown = DataRecipe(images=tuple(options.images), role="target", plain=reading.plain, assume_crs=reading.assume_crs)
    names, dtype = _bands(shown)
    # Without names of the user all bands are taken, by number.
    numbers = tuple(str(k + 1) for k in range(len(names))) if options.bands is None else None
    bands = names if options.bands is None else tuple(options.bands)
    if absent := [name for name in bands if name not in names and not (name.isdecimal() and 1 <= int(name) <= len(names))]:
        raise ConfigError(f"--baseline-bands: no band of the images is {', '.join(absent)}; there are {', '.join(names)}")
    tables = [_table(text, reading, numbers) for text in options.train]
    recipe = _recipe(bands, dtype, classes, reading, [shown.model_copy(update={"bands": numbers}), *tables])
    judged, *training = (open_sources(table, recipe) for table in recipe.data)
    return BaselineScenes(bands, tuple(judged), tuple(source for part in training for source in part))


def _read(path: str, classes: Classes) -> Recipe:
    recipe = Recipe.read(Path(path))
    names = tuple(entry.name for entry in recipe.classes)
    if names != classes.names:
        raise ConfigError(
            f"--baseline-train: {path}: its classes are {', '.join(names)}, those of the maps {', '.join(classes.names)}; "
            "they must be the same in the same order"
        )
    return recipe


def _table(text: str, reading: TruthOptions, bands: tuple[str, ...] | None) -> DataRecipe:
    images, separator, labels = text.rpartition("=")
    if not separator or not images or not labels:
        raise ConfigError(f"--baseline-train: {text!r} is neither IMAGES=LABELS nor a recipe, NAME.toml")
    return DataRecipe(
        images=(images,),
        labels=labels,
        role="train",
        plain=reading.plain,
        bands=bands,
        column=reading.column,
        outside=reading.outside,
        assume_crs=reading.assume_crs,
    )


def _recipe(bands: tuple[str, ...], dtype: str, classes: Classes, reading: TruthOptions, data: Sequence[DataRecipe]) -> Recipe:
    """A recipe of which only the data counts: labels are read as trainings read them."""
    entries = []
    for code, name in enumerate(classes.names):
        own = dict.fromkeys((str(code), name, *reading.values))
        meant = [text for text in own if reading.values.get(text, name if text in (str(code), name) else "") in (name, str(code))]
        entries.append(ClassRecipe(name=name, color="#000000", labels=tuple(meant)))
    return Recipe(
        name="baselines",
        description="scenes of classical methods",
        bands=bands,
        classes=tuple(entries),
        data_type=dtype,
        data=tuple(data),
    )


def _bands(images: DataRecipe) -> tuple[tuple[str, ...], str]:
    """Names of the bands of the first image, and the type of its pixels."""
    if images.plain:
        pixels = read_image(str(images_of(images)[0]))
        names = RGB if len(pixels) == 3 else tuple(f"band {k + 1}" for k in range(len(pixels)))
        return names, str(pixels.dtype)
    refs, refused = list_scenes(images.images, option="--baseline")
    failed = next((item for item in refused if item.status == "failed"), None)
    if failed is not None or not refs:
        raise ConfigError(f"--baseline: {failed.reason if failed is not None else 'no image is there'}")
    ref = refs[0]
    scene = open_scene(ref.paths, ref.name, OpenOptions(assume_crs=images.assume_crs), band_names=ref.band_names, told=ref.told)
    named = [band.role or band.name or (band.color if band.color in (*RGB, "nir") else "") for band in scene.bands]
    unique = tuple(name if name and named.count(name) == 1 else f"band {k + 1}" for k, name in enumerate(named))
    dtype = scene.bands[0].dtype
    return unique, "float32" if dtype.startswith("float") else dtype
