"""Scenes of a recipe that learns a quantity, with rasters of numbers as their labels."""

from __future__ import annotations

from pathlib import Path

from geoseg.errors import ConfigError
from geoseg.labels.labels import is_vector
from geoseg.labels.number_rasters import NumberRaster
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import SceneRef
from geoseg.training.data.chips import ChipSource
from geoseg.training.data.labelled import LabelledScene, Values
from geoseg.training.data.valued import ValuedScene
from pipeline.train.label_files import label_file
from pipeline.train.recipe_data import DataRecipe

__all__ = ["valued_scene"]


def valued_scene(scene: Scene, ref: SceneRef, data: DataRecipe, values: Values) -> ChipSource:
    """A scene with a raster of numbers as its labels.

    Raises:
        ConfigError: There is none.
        SceneError: It can't be read.
    """
    if data.labels is None and data.role != "target":
        raise ConfigError(f"data.labels: missing for {', '.join(data.images)}; only the role target goes without")
    if data.labels is not None and is_vector(data.labels):
        raise ConfigError(f"data.labels: {data.labels}: a quantity is learned from rasters of numbers, not from polygons")
    numbers = None if data.labels is None else str(label_file(Path(ref.paths[0]), ref.name, data))
    if numbers is None:
        return LabelledScene(scene, None, values, chosen=data.bands, rescale=data.rescale)
    NumberRaster.of(numbers)
    return ValuedScene(LabelledScene(scene, None, values, chosen=data.bands, rescale=data.rescale, rasters=(numbers,)))
