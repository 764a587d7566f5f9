"""Values that are mapped to a model's range, given or measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.errors import SceneError
from geoseg.scenes.scene import Scene
from geoseg.scenes.stack import open_reader
from geoseg.windows import Window

__all__ = ["rescale_of"]


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
