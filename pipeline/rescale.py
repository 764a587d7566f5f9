"""How pixel values become those that a model takes: ranges given or measured, and dates brought to the light of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from geoseg.change.radiometry import Lines
from geoseg.errors import SceneError
from geoseg.models.card import Card
from geoseg.scenes.bands import ValueMap, value_map
from geoseg.scenes.scene import Scene
from geoseg.scenes.stack import open_reader
from geoseg.windows import Window

__all__ = ["rescale_of", "values_of"]


def rescale_of(scene: Scene, bands: tuple[int, ...], text: str | None) -> list[tuple[float, float]] | None:
    """Low and high value of each band that are mapped to the ends of a model's range; None where none are asked for.

    Args:
        scene: The scene.
        bands: Indices of its bands.
        text: ``LOW,HIGH``; or ``auto`` for the 2nd and the 98th percentile of sampled pixels.

    Raises:
        SceneError: There is no data to measure, or it is constant.
    """
    if text is None:
        return None
    if text != "auto":
        low, high = (float(part) for part in text.split(","))
        return [(low, high)] * len(bands)
    samples: list[list[Any]] = [[] for _ in bands]
    side = 512
    with open_reader(scene, bands) as reader:
        for row in np.linspace(0, max(0, scene.height - side), 6).astype(int):
            for col in np.linspace(0, max(0, scene.width - side), 6).astype(int):
                window = Window(int(row), int(col), side, side) & Window(0, 0, scene.height, scene.width)
                assert window is not None
                pixels = reader.read(window)
                for values, data in zip(samples, pixels.data, strict=False):
                    values.append(data[pixels.valid][::7])
    result = []
    for values, i in zip(samples, bands, strict=True):
        joined = np.concatenate(values)
        if joined.size == 0:
            raise SceneError(f"{scene.path}: --rescale auto: none of the sampled pixels holds data; pass --rescale LOW,HIGH")
        low, high = (float(v) for v in np.percentile(joined.astype(np.float64), (2, 98)))
        if low >= high:
            raise SceneError(
                f"{scene.path}: --rescale auto: band {scene.bands[i].label} is constant ({low:g}); pass --rescale LOW,HIGH"
            )
        result.append((low, high))
    return result


def values_of(
    scene: Scene, bands: Sequence[int], card: Card, rescale: list[tuple[float, float]] | None, lines: Sequence[Lines | None] = ()
) -> ValueMap:
    """The mapping from pixels to what a model takes.

    Args:
        scene: The scene.
        bands: Indices of its bands; of each date in turn.
        card: Of the model.
        rescale: By band, what ``rescale_of`` gave.
        lines: By date, those that bring its values to those of the first date.

    Raises:
        DtypeError: The values are not what the model takes, and nothing says how to convert them.
        ConfigError: The model has no range to map to.
    """
    values = value_map(
        scene, [scene.bands[i] for i in bands],
        dtype=card.data_type, value_range=card.value_range, physical=card.physical, rescale=rescale,
    )  # fmt: skip
    size = len(bands) // max(1, len(lines))
    for t, of_date in enumerate(lines):
        if of_date is None:
            continue
        # Pixels are first brought to those of the first date, whose values the model then gets.
        scale, offset = list(values.scale), list(values.offset)
        for k, (gain, shift) in enumerate(of_date):
            place = t * size + k
            scale[place] = values.scale[k] * gain
            offset[place] = values.scale[k] * shift + values.offset[k]
        values = replace(values, scale=tuple(scale), offset=tuple(offset))
    return values
