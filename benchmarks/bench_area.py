"""An area of interest: it is to cost what it holds, not what the scene holds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import rasterio
from common import Row, Settings, fresh, geoseg, in_turn, seconds_of, warm
from data import mirrored
from models import two_layers
from shapely import Point

SIDE, SHARE = 20_000, 0.01
SECONDS, PART = 6.0, 0.05


def area_rows(settings: Settings) -> Iterator[Row]:
    """A disc of a hundredth of a scene of 20,000 x 20,000 pixels, whole process, against the whole scene."""
    scene, model = mirrored(SIDE), two_layers()
    warm(scene)
    with rasterio.open(scene) as dataset:
        radius = SIDE * math.sqrt(SHARE / math.pi) * dataset.res[0]
        disc = Point(dataset.transform @ (SIDE / 2 + 300, SIDE / 2 + 200)).buffer(radius)
        crs = dataset.crs.to_epsg()
    base = ("segment", scene, "--model", model, "--quiet", "--out")
    sides = {
        "area": lambda: geoseg(*base, fresh("area"), "--aoi", f"SRID={crs};{disc.wkt}"),
        "scene": lambda: geoseg(*base, fresh("whole")),
    }
    done = in_turn(sides, settings.repeat)
    area, whole = (seconds_of(done[name]) for name in ("area", "scene"))
    yield Row(
        "area",
        f"--aoi of {SHARE:.0%} of {SIDE} x {SIDE} x 4 uint16, two-layer network, whole process, against the whole scene",
        f"under {SECONDS:g} s + {PART:.0%} of it",
        f"{area:.1f} s against {whole:.1f} s ({area / whole:.1%})",
        area < SECONDS + PART * whole,
        {"seconds": [area, whole]},
    )
