"""Houses, many of which touch, and a network that is told all of them by its bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.models.model_folder import Model
from geoseg.training.losses.targets import boundary_map, distance_map
from tests.support import save

TRUNCATE = 12


def make_told_model(folder: Path) -> Model:
    """A network that is told all: class, boundary and distance are bands of the image."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(3, 5, 1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.zero_()
        # Scores of other, road and building: the red band is 0, 1 or 2 times 100.
        for k in range(3):
            network.weight[k, 0], network.bias[k] = 2 * k / 5, -20.0 * k**2
        network.weight[3, 1], network.bias[3] = 0.2, -20.0
        network.weight[4, 2], network.bias[4] = 1 / 100, -1.0
    names = ("other", "road", "building")
    return save(
        network,
        3,
        3,
        folder,
        classes=[{"value": k, "name": n, "color": f"#{80 * k:02x}8040", "background": k < 2} for k, n in enumerate(names)],
        instances={"kind": "watershed", "largest_px": 60, "seed": 0.15, "boundary": 0.5, "least_px": 1},
    )


def town(seed: int, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Numbers of houses, many of which touch; one is longer than any tile."""
    rng = np.random.default_rng(seed)
    objects = np.zeros(shape, np.int32)
    objects[shape[0] // 2 : shape[0] // 2 + 14, 10 : shape[1] - 10] = 1
    for number in range(2, 400):
        height, width = rng.integers(8, 40, 2)
        row, col = rng.integers(0, shape[0] - height), rng.integers(0, shape[1] - width)
        if not objects[row : row + height, col : col + width].any():
            objects[row : row + height, col : col + width] = number
    return objects


def image_of(objects: NDArray[np.int32]) -> NDArray[np.uint8]:
    """What the told model reads."""
    code = np.where(objects > 0, 2, 0).astype(np.uint8)
    code[:20, :][objects[:20, :] == 0] = 1
    boundary = boundary_map(code, 2, objects) == 1
    distance = np.nan_to_num(distance_map(code, TRUNCATE, objects=objects), nan=-0.5)
    return np.stack([code * 100, np.where(boundary, 200, 0), np.rint(100 + 100 * distance)]).astype(np.uint8)
