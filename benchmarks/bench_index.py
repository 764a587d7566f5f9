"""An index of 100,000 scenes (stac-geoparquet) is read: all boxes and names, then the scenes of an area; nothing is opened.

python benchmarks/bench_index.py [--scenes 100000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from geoseg.crs import crs_of
from geoseg.formats.stac_table import IndexedScene, write_scene_table
from geoseg.georeference import Georeference
from geoseg.scenes.sources import list_scenes
from geoseg.scenes.stac.item_table import items_of_table
from geoseg.scenes.stac.search import StacSearch

ZONES = range(18, 24)
AREA = -60.0, -10.0, -59.0, -9.0
"""A square degree."""


Found = TypeVar("Found")


def timed(what: Callable[[], Found]) -> tuple[Found, float]:
    """What it gives, and its CPU time in seconds."""
    start = time.process_time()
    found = what()
    return found, time.process_time() - start


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100_000)
    count = parser.parse_args().scenes
    rng, codes = np.random.default_rng(0), [crs_of(f"EPSG:{32700 + zone}").to_wkt() for zone in ZONES]
    lefts, tops = rng.integers(200_000, 700_000, count), rng.integers(8_000_000, 9_900_000, count)
    scenes = [
        IndexedScene(
            f"scene-{number:06d}",
            Georeference((10.0, 0.0, float(left), 0.0, -10.0, float(top)), codes[number % len(codes)]),
            (2048, 2048),
            (f"https://images.example/{number}.tif",),
            f"{number:064x}",
            acquired=f"2024-{1 + number % 12:02d}-01T00:00:00Z",
            cloud_cover=float(number % 100),
        )
        for number, (left, top) in enumerate(zip(lefts.tolist(), tops.tolist(), strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenes.parquet"
        _, wrote = timed(lambda: write_scene_table(path, scenes))
        size = path.stat().st_size
        items, read = timed(lambda: sum(1 for _ in items_of_table(str(path), StacSearch())))
        (near, refused), looked = timed(lambda: list_scenes([str(path)], search=StacSearch(bbox=AREA)))
        (every, _), listed = timed(lambda: list_scenes([str(path)]))
    assert items == len(every) == count
    assert not refused
    sys.stdout.write(
        f"{count:,} scenes, {size / 1e6:.0f} MB, written in {wrote:.1f} s of CPU time; all items read: {read:.2f} s; the "
        f"{len(near)} scenes of a square degree: {looked:.2f} s; all as scenes: {listed:.1f} s\n"
    )


if __name__ == "__main__":
    main()
