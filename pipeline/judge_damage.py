"""How well buildings were graded: figures by building with intervals, and the score of the xView2 challenge by pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray

from geoseg.damage.crops import pixel_shapes
from geoseg.damage.scale import CLASSES, LABELS, building_figures, xview2_score
from geoseg.errors import ConfigError
from geoseg.scenes.scene import Scene
from pipeline.damage import ID_FIELDS
from pipeline.polygon_files import PolygonFile

__all__ = ["judge_damage"]

DRAWS = 2000


def judge_damage(found_path: Path, truth_path: Path, column: str, scene: Scene, *, seed: int = 0) -> dict[str, Any]:
    """Figures of graded buildings against a truth with the same footprints, with 95 % intervals, and the xView2 score by pixels.

    Buildings match by their ``name`` (the ``uid`` of the truth). Intervals come from drawing buildings with replacement. Buildings
    that lie wholly off the image are not judged.
    """
    found, truth = (PolygonFile.open(path) for path in (found_path, truth_path))
    place = scene.georeference
    size = scene.height, scene.width
    image = shapely.box(0, 0, scene.width, scene.height)
    codes: dict[str, int] = {}
    shapes: dict[str, list[tuple[Any, int]]] = {"found": [], "truth": []}
    for geometries, values in found.batches(("name", "code")):
        for shape, name, code in zip(pixel_shapes(geometries, found.crs, place), values["name"], values["code"], strict=True):
            codes[str(name)] = int(code) if int(code) < len(CLASSES) else -1
            shapes["found"].append((shape, 1 + int(code) if int(code) < len(CLASSES) else 0))
    pairs = []
    for geometries, values in truth.batches((*ID_FIELDS, column)):
        field = next((f for f in ID_FIELDS if f in values), None)
        if column not in values or field is None:
            raise ConfigError(f"{truth_path}: needs a column {column!r} and one of {', '.join(ID_FIELDS)}")
        for shape, name, text in zip(pixel_shapes(geometries, truth.crs, place), values[field], values[column], strict=True):
            label = LABELS.get(str(text).strip().lower(), -1)
            if label < 0 or not shape.intersects(image):
                continue
            shapes["truth"].append((shape, 1 + label))
            if str(name) in codes:
                pairs.append((codes[str(name)], label))
    if not pairs:
        raise ConfigError(f"{truth_path}: none of its buildings is among those of {found_path}; both need the same ids")
    both = np.array(pairs, np.int64)
    figures = building_figures(both[:, 0], both[:, 1])
    rng = np.random.default_rng(seed)
    draws = [building_figures(*both[rng.integers(len(both), size=len(both))].T)["macro_f1"] for _ in range(DRAWS)]
    low, high = np.percentile(draws, (2.5, 97.5)).tolist()

    def burned(parts: list[tuple[Any, int]]) -> NDArray[np.uint8]:
        inside = [(shape, code) for shape, code in parts if code and not shape.is_empty]
        if not inside:
            return np.zeros(size, np.uint8)
        return np.asarray(rasterio.features.rasterize(inside, size, dtype="uint8"))

    return {**figures, "macro_f1_95": [low, high], "xview2": xview2_score([burned(shapes["found"])], [burned(shapes["truth"])])}
