"""What is likely to go wrong with a training, in sentences, before its first step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from geoseg.codes import UNLABELLED
from geoseg.dialect import number_of
from geoseg.errors import ConfigError
from geoseg.labels.labels import RasterLabels, VectorLabels
from geoseg.training.data.chips import ChipSource
from geoseg.training.data.labelled import LabelledScene
from geoseg.training.data.splits import Without
from geoseg.windows import Window
from pipeline.train.data import VALIDATION_SIDE, TrainingData
from pipeline.train.recipe import Recipe

if TYPE_CHECKING:
    from geoseg.training.data.survey import Place

__all__ = ["check_labelled", "early_warnings", "half_width"]

SPREAD = 0.1
"""Standard deviation of IoU from scene to scene that is assumed, before any is known."""
WIDE = 0.1
"""Half of a 95 % interval from which on validation says little."""
COVERED = 0.99
"""Share of a scene that label rasters are to cover."""
MIDDLE_PX = 256
"""Side of the middle of images by which copies are found."""
NAMED = 5


def check_labelled(data: TrainingData, pixels: Mapping[str, int], *, numbers: bool = False) -> None:
    """Refuse data from which nothing can be learned, before anything is trained.

    Args:
        data: The data.
        pixels: Labelled pixels to train on, by class.
        numbers: Whether labels are rasters of numbers.

    Raises:
        ConfigError: Nothing is labelled, to train on or to validate on, or one class of several only.
    """
    there = [name for name, count in pixels.items() if count]
    what = "say which values of the labels stand for which class: classes.labels"
    if numbers:
        what = "see that the rasters of data.labels lie on the images, and have numbers that are not their nodata value"
    if not there:
        raise ConfigError(f"data: none of the {len(data.training)} scenes to train on has a labelled pixel; {what}")
    if len(there) == 1 < len(pixels):
        raise ConfigError(
            f"data: all {pixels[there[0]]:,} labelled pixels to train on are {there[0]!r}, of {number_of(len(pixels), 'class')}; "
            f"{what}, or that what lies outside of features is a class: data.outside"
        )
    parts = (data.validation[k].read(part) for k, area in data.areas for part in area.parts(VALIDATION_SIDE))
    if not any((chip.labels != UNLABELLED).any() for chip in parts):
        raise ConfigError(
            f"data: nothing is labelled where it is validated, in {number_of(len(data.areas), 'area')}; change split, or {what}"
        )


def early_warnings(recipe: Recipe, data: TrainingData, training: Sequence[Place], validation: Sequence[Place]) -> tuple[str, ...]:
    """Sentences on data that a training can begin with, and that it will hardly learn from, or be judged by.

    Args:
        recipe: What is trained.
        data: On what.
        training: Counts of each scene to train on.
        validation: Counts of each area that is validated.

    Raises:
        ConfigError: The features of a file of labels lie on none of the images.
    """
    return (
        *_unlabelled(training, validation),
        *_misplaced(data),
        *_absent(recipe, training, validation),
        *_rare(recipe, training),
        *_few(recipe, validation),
        *_copies(data),
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _unlabelled(training: Sequence[Place], validation: Sequence[Place]) -> Iterator[str]:
    for role, places in (("train", training), ("validate", validation)):
        names = list(dict.fromkeys(place.name for place in places if not place.counts.any()))
        if names:
            yield (
                f"data.labels: {len(names)} of {len({place.name for place in places})} scenes to {role} on have no labelled "
                f"pixel there: {_listed(names)}; do their labels lie on them?"
            )


def _misplaced(data: TrainingData) -> Iterator[str]:
    """Labels that miss their image wholly or in part.

    Raises:
        ConfigError: The features of a file lie on none of the images.
    """
    features: dict[str, list[tuple[str, int, int, bool]]] = {}
    for source in {s.name: s for s in (*data.training, *data.validation)}.values():
        scene = source.source if isinstance(source, Without) else source
        labels = scene.labels if isinstance(scene, LabelledScene) else None
        if isinstance(labels, RasterLabels) and 0 < (share := labels.coverage()) < COVERED:
            yield f"{source.name}: its labels {labels.path} cover {100 * share:.1f} % of it; nothing is learned from the rest"
        if isinstance(labels, VectorLabels):
            features.setdefault(labels.path, []).append(
                (source.name, *labels.on_scene(), labels.outside in labels.codes.values())
            )
    for path, found in features.items():
        count = found[0][2]
        if count and not any(here for _, here, _, _ in found):
            raise ConfigError(
                f"data.labels: {path}: none of its {count:,} features lies on any of {number_of(len(found), 'image')}, "
                f"the first of which is {found[0][0]}; are they of the same place, and is the CRS of both files right?"
            )
        bare = [name for name, here, _, filled in found if not here and filled]
        if bare and count:
            yield (
                f"data.labels: {path}: no feature lies on {len(bare)} of {number_of(len(found), 'image')}, all of which is then "
                f"the class of data.outside: {_listed(bare)}; leave images that nobody has labelled out with data.only"
            )


def _absent(recipe: Recipe, training: Sequence[Place], validation: Sequence[Place]) -> Iterator[str]:
    names = [entry.name for entry in recipe.classes]
    for role, places, so in (
        ("train", training, "nothing of the kind will be learned"),
        (
            "validate",
            validation,
            "nothing says how well such are found, nor does the choice of the checkpoint heed them",
        ),
    ):
        total = sum((place.counts for place in places), np.zeros(len(names), np.int64))
        missing = [name for name, count in zip(names, total.tolist(), strict=True) if not count]
        if missing:
            what = f"class {missing[0]}" if len(missing) == 1 else f"the classes {', '.join(missing)}"
            yield f"no pixel to {role} on is of {what}; {so}: see classes.labels, data.outside and split"


def _rare(recipe: Recipe, training: Sequence[Place]) -> Iterator[str]:
    """Classes that by chance no chip will show."""
    if recipe.sample.by == "class":
        return
    cells = sum(place.cells for place in training)
    holding = sum((place.holding for place in training), np.zeros(len(recipe.classes), np.int64))
    chips = recipe.loop.steps * recipe.loop.accumulate * recipe.sample.batch * recipe.loop.devices
    for entry, count in zip(recipe.classes, holding.tolist(), strict=True):
        expected = chips * count / max(cells, 1)
        if count > 0 and expected < 1:
            yield (
                f"class {entry.name} is in {count:,} of {cells:,} places of a chip's size, and the training draws {chips:,} "
                f'chips: {expected:.2g} are to be expected with it; set sample.by = "class", or more loop.steps'
            )


def half_width(count: int, spread: float = SPREAD) -> float:
    """Half of the 95 % interval of a mean over places, by Student's t; infinite for a single one."""
    return float(stats.t.ppf(0.975, count - 1) * spread / np.sqrt(count)) if count > 1 else float("inf")


def _few(recipe: Recipe, validation: Sequence[Place]) -> Iterator[str]:
    """Validation on so few places that its figure has no interval, or a wide one."""
    labelled = [place for place in validation if place.counts.any()]
    scenes = len({place.name for place in labelled})
    what = "scene" if scenes == len(labelled) else f"block of {number_of(scenes, 'scene')}"
    cure = "hold out more" if recipe.split.val else 'give more with role = "val"'
    if len(labelled) == 1:
        yield f"validation is on a single {what}, so that its figures have no interval at all: {cure}"
    # The spread that is assumed is that of classes.
    elif not recipe.regresses and half_width(len(labelled)) > WIDE:
        several = what.replace("scene", "scenes", 1) if what == "scene" else what.replace("block", "blocks", 1)
        yield (
            f"validation is on {len(labelled)} {several}: where IoU differs by {SPREAD:g} from one to the next, the 95 % "
            f"interval of their mean is ± {half_width(len(labelled)):.2f}, and smaller differences between checkpoints are "
            f"chance; {cure}"
        )


def _copies(data: TrainingData) -> Iterator[str]:
    """Images with the same pixels on both sides, wherever they are said to lie."""
    seen = {_pixels(source): source.name for source in data.training if not isinstance(source, Without)}
    for source in data.validation:
        other = seen.get(_pixels(source)) if source.name not in seen.values() else None
        if other is not None:
            yield f"{source.name}, which is validated on, has the pixels of {other}, which is trained on; remove one of them"


def _pixels(source: ChipSource) -> str:
    """An image by its size and its middle; images of one value are all different, by their names."""
    height, width = min(MIDDLE_PX, source.height), min(MIDDLE_PX, source.width)
    middle = Window.at(((source.height - height) // 2, (source.width - width) // 2), (height, width))
    image = source.read(middle).image
    if (image == image[:, :1, :1]).all():
        return source.name
    return hashlib.sha256(f"{source.height} {source.width} {image.shape}".encode() + image.tobytes()).hexdigest()
