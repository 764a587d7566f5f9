"""Mosaics: scenes as one map against each on its own, and one more scene against that scene alone."""

from __future__ import annotations

import argparse
import resource
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isqrt
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


@dataclass(frozen=True, slots=True)
class Squares:
    """Scenes that overlap, cut out of one."""

    along: int = GRID
    """Scenes along each side."""
    side: int = SIDE
    """Rows and columns of each."""

    @property
    def whole(self) -> int:
        """Rows and columns of all together."""
        return self.along * (self.side - OVERLAP) + OVERLAP

    @property
    def name(self) -> str:
        """What tells their files from those of others."""
        return str(self.along) if self.side == SIDE else f"{self.along}-of-{self.side}"


def mosaic_rows(settings: Settings, squares: Squares | None = None, *, more: bool = True) -> Iterator[Row]:
    """Scenes that overlap, with a network that costs next to nothing; then one more, with one that does."""
    squares = squares or Squares()
    yield _whole(settings, squares)
    if more:
        yield _more(settings, squares)


def _whole(settings: Settings, squares: Squares) -> Row:
    scenes, model = cut(mirrored(squares.whole), f"mosaic-mirrored-{squares.name}", squares), two_layers()
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
        f"{len(scenes)} scenes of {squares.side} x {squares.side} x 4 uint16 that overlap by {OVERLAP} pixels, two-layer "
        "network, as one map against each on its own, whole processes, CPU seconds",
        f"{WHOLE:g}x, memory {MEMORY:g}x",
        f"{cpu / cpu_one:.2f}x ({cpu:.1f} s against {cpu_one:.1f} s; {together / one:.2f}x by the clock), memory "
        f"{peaks[0] / 1e6:.0f} MB against {peaks[1] / 1e6:.0f} MB",
        cpu <= WHOLE * cpu_one and peaks[0] <= MEMORY * peaks[1],
        {"cpu_s": [cpu, cpu_one], "seconds": [together, one], "peak_bytes": peaks},
    )


def _more(settings: Settings, squares: Squares) -> Row:
    source = DATA / f"frontier-mosaic-{squares.name}.tif"
    if not source.is_file():
        Frontier(squares.whole, squares.whole, 7).write(source)
    scenes = cut(source, f"mosaic-frontier-{squares.name}", squares)
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


def cut(source: Path, name: str, squares: Squares) -> list[Path]:
    """The scenes of a raster, made once."""
    folder, side = DATA / name, squares.side
    paths = [folder / f"s{row}{col}.tif" for row in range(squares.along) for col in range(squares.along)]
    if all(path.is_file() for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    step = side - OVERLAP
    with rasterio.open(source) as dataset:
        for number, path in enumerate(paths):
            row, col = divmod(number, squares.along)
            window = Window(col * step, row * step, side, side)
            facts = {"driver": "GTiff", "height": side, "width": side, "transform": dataset.window_transform(window)}
            kept = {key: dataset.profile[key] for key in ("count", "dtype", "crs", "nodata")}
            with rasterio.open(path, "w", **facts, **kept, tiled=True, compress="deflate") as part:
                part.write(dataset.read(window=window))
                part.descriptions = dataset.descriptions
    return paths


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
    parser.add_argument("--scenes", type=int, default=GRID**2, help="how many, a square [default: 16]")
    parser.add_argument("--side", type=int, default=SIDE, help="rows and columns of each [default: 1024]")
    parser.add_argument("--no-more", action="store_true", help="leave out the measurement of one more scene")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side [default: 3]")
    options = parser.parse_args()
    along = isqrt(options.scenes)
    if along**2 != options.scenes:
        parser.error(f"--scenes {options.scenes}: is no square; {along**2} and {(along + 1) ** 2} are")
    for row in mosaic_rows(Settings(repeat=options.repeat), Squares(along, options.side), more=not options.no_more):
        print(f"{row.name}: {row.measured}; bar {row.bar}: {'reached' if row.ok else 'missed'}", flush=True)


if __name__ == "__main__":
    main()
