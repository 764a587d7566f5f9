"""Polygons of a class raster: against rasterio and geopandas, and in chunks against in one piece."""

from __future__ import annotations

from collections.abc import Iterator

from common import Done, Row, Settings, call, fresh, in_turn, peak_of, seconds_of, warm
from data import SIDE, patches

BARS = {"parquet": 4.0, "geojson": 6.0}
MEMORY_BAR = 0.75
CHUNK = 1024


def _sides(suffix: str, *, memory: bool = False) -> dict[str, Done]:
    def side(function: str) -> Done:
        return call(f"sides:{function}", memory=memory, raster=patches(), out=fresh(function) / f"polygons.{suffix}")

    return {"geoseg": lambda: side("vectorize"), "rasterio + geopandas": lambda: side("vectorize_naively")}


def vectorize_rows(settings: Settings) -> Iterator[Row]:
    """A patchy raster with three classes: time and memory by format."""
    warm(patches())
    for suffix, bar in BARS.items():
        done = in_turn(_sides(suffix), settings.repeat, warm_up=True)
        # Watching the memory takes time, so that it is done in runs of its own.
        watched = in_turn(_sides(suffix, memory=True), 1)
        ours, theirs = (seconds_of(done[name], "seconds") for name in done)
        memory = {name: peak_of(values) for name, values in watched.items()}
        share = memory["geoseg"] / memory["rasterio + geopandas"]
        yield Row(
            f"vectorize-{suffix}",
            f"vectorize 4096 x 4096, three classes, {done['geoseg'][-1].result['features']:,} polygons, after imports, all "
            f"attributes, against rasterio.features.shapes + geopandas: {suffix}; peak memory of the process",
            f"at least {bar:g}x faster; at most {MEMORY_BAR}x",
            f"{theirs / ours:.1f}x; {share:.2f}x",
            theirs >= bar * ours and share <= MEMORY_BAR,
            {
                "seconds": {"geoseg": ours, "rasterio + geopandas": theirs},
                "peak_bytes": memory,
                "results": {name: values[-1].result for name, values in done.items()},
            },
        )


def chunks_rows(settings: Settings) -> Iterator[Row]:
    """The same raster in 16 chunks joined over seams, against in one piece."""
    warm(patches())
    sides = {
        "16 chunks": lambda: call("sides:join", raster=patches(), work=fresh("chunks"), block=CHUNK),
        "one piece": lambda: call("sides:join", raster=patches(), work=fresh("piece"), block=SIDE),
    }
    done = in_turn(sides, settings.repeat, warm_up=True)
    chunks, piece = (seconds_of(values, "seconds") for values in done.values())
    first, second = (values[-1].result for values in done.values())
    equal = first["digest"] == second["digest"]
    yield Row(
        "chunks",
        "the same raster in 16 chunks joined over seams, against in one piece",
        "at most 1.5x, equal polygons",
        f"{chunks / piece:.2f}x, {first['features']:,} polygons, {'equal' if equal else 'NOT equal'}",
        equal and chunks <= 1.5 * piece,
        {"seconds": {"chunks": chunks, "piece": piece}, "results": [first, second]},
    )
