"""Mosaics: scenes as one map against each on its own, and one more scene against that scene alone."""

from __future__ import annotations

import argparse
import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import rasterio
from common import DATA, Done, Row, Settings, fresh, geoseg, in_turn, peak_of, seconds_of, warm
from data import mirrored
from models import two_layers
from rasterio.windows import Window

from geoseg.procedural import Frontier

GRID, SIDE, OVERLAP = 4, 1024, 128
MODEL = "amazon-forest"
WHOLE, MORE = 1.15, 1.3
MEMORY = 1.15


def mosaic_rows(settings: Settings, grid: int = GRID) -> Iterator[Row]:
    """Scenes that overlap, with a network that costs next to nothing; then one more, with one that does."""
    yield _whole(settings, grid)
    yield _more(settings, grid)


def _whole(settings: Settings, grid: int) -> Row:
    scenes, model = cut(mirrored(_side(grid)), f"mosaic-mirrored-{grid}", grid), two_layers()
    warm(*scenes)
    base = ("--model", model, "--formats", "gpkg", "--quiet", "--out")
    sides = {
        "mosaic": lambda: _timed("segment", *scenes, "--mosaic", *base, fresh("mosaic"), memory=True),
        "alone": lambda: _timed("segment", *scenes, *base, fresh("alone"), memory=True),
    }
    done = in_turn(sides, settings.repeat)
    (together, one), (cpu, cpu_one) = (_both(done, key) for key in (None, "cpu"))
    peaks = [peak_of(done[name]) for name in sides]
    return Row(
        "mosaic",
        f"{len(scenes)} scenes of {SIDE} x {SIDE} x 4 uint16 that overlap by {OVERLAP} pixels, two-layer network, as one map "
        "against each on its own, whole processes, CPU seconds",
        f"{WHOLE:g}x, memory {MEMORY:g}x",
        f"{cpu / cpu_one:.2f}x ({cpu:.1f} s against {cpu_one:.1f} s; {together / one:.2f}x by the clock), memory "
        f"{peaks[0] / 1e6:.0f} MB against {peaks[1] / 1e6:.0f} MB",
        cpu <= WHOLE * cpu_one and peaks[0] <= MEMORY * peaks[1],
        {"cpu_s": [cpu, cpu_one], "seconds": [together, one], "peak_bytes": peaks},
    )


def _more(settings: Settings, grid: int) -> Row:
    source = DATA / f"frontier-mosaic-{grid}.tif"
    if not source.is_file():
        Frontier(_side(grid), _side(grid), 7).write(source)
    scenes = cut(source, f"mosaic-frontier-{grid}", grid)
    warm(*scenes)
    base = ("--model", MODEL, "--formats", "gpkg", "--quiet", "--out")
    before = fresh("mosaic-before")
    geoseg("segment", *scenes[:-1], "--mosaic", "--keep", *base, before)

    def more() -> Done:
        out = fresh("mosaic-more")
        shutil.rmtree(out)
        shutil.copytree(before, out, copy_function=shutil.copy2)
        return _timed("segment", *scenes, "--mosaic", "--keep", *base, out)

    whole = fresh("mosaic-after")
    geoseg("segment", *scenes, "--mosaic", *base, whole)
    sides = {
        "more": more,
        "alone": lambda: _timed("segment", scenes[-1], *base, fresh("alone")),
        "file": lambda: _timed("vectorize", whole / "mosaic" / "classes.tif", "--out", fresh("polygons") / "polygons.gpkg"),
    }
    done = in_turn(sides, settings.repeat)
    clock, cpu = ({name: seconds_of(each, key) for name, each in done.items()} for key in (None, "cpu"))
    shares = [found["more"] / (found["alone"] + found["file"]) for found in (cpu, clock)]
    return Row(
        "one more scene",
        f"one more scene onto a mosaic of {len(scenes) - 1} (--keep), {MODEL}, against that scene alone and writing the polygons "
        "of the mosaic, whole processes, CPU seconds",
        f"{MORE:g}x",
        f"{shares[0]:.2f}x ({cpu['more']:.1f} s against {cpu['alone']:.1f} + {cpu['file']:.1f} s; {shares[1]:.2f}x by the clock)",
        shares[0] <= MORE,
        {"cpu_s": cpu, "seconds": clock},
    )


def cut(source: Path, name: str, grid: int) -> list[Path]:
    """``grid`` x ``grid`` scenes of a raster that overlap, made once."""
    folder = DATA / name
    paths = [folder / f"s{row}{col}.tif" for row in range(grid) for col in range(grid)]
    if all(path.is_file() for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    step = SIDE - OVERLAP
    with rasterio.open(source) as dataset:
        for number, path in enumerate(paths):
            row, col = divmod(number, grid)
            window = Window(col * step, row * step, SIDE, SIDE)
            facts = {"driver": "GTiff", "height": SIDE, "width": SIDE, "transform": dataset.window_transform(window)}
            kept = {key: dataset.profile[key] for key in ("count", "dtype", "crs", "nodata")}
            with rasterio.open(path, "w", **facts, **kept, tiled=True, compress="deflate") as part:
                part.write(dataset.read(window=window))
                part.descriptions = dataset.descriptions
    return paths


def _side(grid: int) -> int:
    return grid * (SIDE - OVERLAP) + OVERLAP


def _timed(*args: str | Path, memory: bool = False) -> Done:
    """A command, with the CPU seconds of its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = geoseg(*args, memory=memory)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return replace(done, result={"cpu": cpu})


def _both(done: dict[str, list[Done]], key: str | None) -> tuple[float, float]:
    return seconds_of(done["mosaic"], key), seconds_of(done["alone"], key)


def main() -> None:
    """Measure a mosaic alone, of another size."""
    parser = argparse.ArgumentParser(description="Measure mosaics.")
    parser.add_argument("--grid", type=int, default=GRID, help="scenes along each side [default: 4]")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side [default: 3]")
    options = parser.parse_args()
    for row in mosaic_rows(Settings(repeat=options.repeat), options.grid):
        print(f"{row.name}: {row.measured}; bar {row.bar}: {'reached' if row.ok else 'missed'}", flush=True)


if __name__ == "__main__":
    main()
