"""A result of graded buildings without a model: the labelled buildings of a real event, with errors among their grades."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import shapely
from numpy.typing import NDArray

GRADES = ("no damage", "minor damage", "major damage", "destroyed")
LABELS = {"no-damage": 0, "minor-damage": 1, "major-damage": 2, "destroyed": 3}


def joplin(shared: Path, folder: Path, *, report: dict[str, Any] | None = None) -> tuple[Path, NDArray[np.int64]]:
    """Buildings after the tornado of 2011, graded with a fifth of errors, and their labels (N,); -1 where there is none."""
    data = shared / "data" / "joplin_damage"
    meta, _, wkb, values = pyogrio.raw.read(data / "post_buildings.geojson")
    label = dict(zip(meta["fields"], values, strict=True))["damage"]
    truth = np.array([LABELS.get(str(text), -1) for text in label])
    rng = np.random.default_rng(5)
    wrong = rng.random(len(truth)) < 0.2
    code = np.where(truth < 0, 254, np.clip(truth + np.where(wrong, rng.choice([-1, 1], len(truth)), 0), 0, 3)).astype(np.int16)
    confidence = np.where(wrong, rng.uniform(40, 95, len(truth)), rng.uniform(60, 100, len(truth)))
    folder.mkdir(parents=True)
    shapes = shapely.from_wkb(wkb)
    classes = np.array([GRADES[c] if c < 4 else "not analysed" for c in code], object)
    reason = np.array([None if c < 4 else "cloud" for c in code], object)
    pyogrio.raw.write(
        folder / "buildings.gpkg",
        shapely.to_wkb(shapes),
        [np.arange(1, len(code) + 1), code, classes, np.full(len(code), 150.0), confidence, reason],
        ["id", "code", "class", "area_m2", "confidence", "reason"],
        layer="buildings",
        geometry_type="Unknown",
        crs="EPSG:4326",
        driver="GPKG",
    )
    dates = [{"acquired": day, "source": [str(data / name)]} for day, name in (("2010-06-01", "pre.tif"), (None, "post.tif"))]
    told = {"dates": dates, "model": {"name": "m", "version": "1", "sha256": "ab" * 32}} | (report or {})
    (folder / "damage.json").write_text(json.dumps(told))
    return folder, truth
