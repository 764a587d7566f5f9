"""Memory and time of scenes of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from common import Done, Row, Settings, fresh, geoseg, in_turn, peak_of, seconds_of, warm
from data import frontier, repeated, sparse
from models import one_band

SMALL, LARGE, BUDGET = 8192, 32768, "2GB"
SHIPPED, SCENES = "amazon-forest", (4096, 16384)
SPARSE_SMALL, SPARSE = 40_000, 400_000
GROWTH, LIMIT = 1.2, 3.5e9
SPARSE_GROWTH = 1.5
SPARSE_SECONDS = 120.0


def _runs(name: str, scenes: Mapping[int, Path], model: str | Path, repeat: int) -> dict[str, list[Done]]:
    """Runs over scenes by their side, in turn, with the memory of their processes."""
    sides = {
        str(side): lambda scene=scene: geoseg(
            "segment", scene, "--model", model, "--out", fresh(name), "--memory", BUDGET, "--quiet", memory=True
        )
        for side, scene in scenes.items()
    }
    return in_turn(sides, repeat)


def memory_rows(settings: Settings) -> Iterator[Row]:
    """Peak of the process tree on a scene 16 times as large; takes minutes and 20 GB of disk."""
    del settings
    model = one_band()
    done = _runs("memory", {side: repeated(side) for side in (SMALL, LARGE)}, model, 1)
    small, large = (peak_of(values) for values in done.values())
    yield Row(
        "memory",
        f"peak memory (PSS) of the process tree, {LARGE} x {LARGE} against {SMALL} x {SMALL} at --memory {BUDGET}",
        f"at most {GROWTH}x, and under 3.5 GB",
        f"{large / small:.2f}x, {large / 1e9:.2f} GB",
        large <= GROWTH * small and large < LIMIT,
        {"peak_bytes": [small, large], "seconds": {name: seconds_of(values) for name, values in done.items()}},
    )


def growth_rows(settings: Settings) -> Iterator[Row]:
    """Peak of the process tree with a shipped model, on a scene 16 times as large; takes minutes."""
    done = _runs("growth", {side: frontier(side) for side in SCENES}, SHIPPED, settings.repeat)
    small, large = (peak_of(values) for values in done.values())
    yield Row(
        "growth",
        f"peak memory (PSS) of the process tree with {SHIPPED}, {SCENES[1]} x {SCENES[1]} against {SCENES[0]} x {SCENES[0]} at "
        f"--memory {BUDGET}",
        f"at most {GROWTH}x",
        f"{large / small:.2f}x, {small / 1e6:.0f} MB and {large / 1e6:.0f} MB",
        large <= GROWTH * small,
        {"peak_bytes": [small, large], "seconds": {name: seconds_of(values) for name, values in done.items()}},
    )


def sparse_rows(settings: Settings) -> Iterator[Row]:
    """A raster of 400,000 x 400,000 pixels of which 24 blocks hold data, all outputs."""
    model = one_band()
    for side in (SPARSE_SMALL, SPARSE):
        warm(sparse(side))
    done = _runs("sparse", {side: sparse(side) for side in (SPARSE_SMALL, SPARSE)}, model, settings.repeat)
    seconds = seconds_of(done[str(SPARSE)])
    small, large = (peak_of(values) for values in done.values())
    yield Row(
        "sparse",
        f"a sparse raster of {SPARSE} x {SPARSE} with 24 data blocks, all outputs; peak memory against {SPARSE_SMALL} x "
        f"{SPARSE_SMALL} with as many",
        f"under two minutes; flat, at most {SPARSE_GROWTH}x",
        f"{seconds:.0f} s; {large / small:.2f}x ({large / 1e6:.0f} MB)",
        seconds < SPARSE_SECONDS and large <= SPARSE_GROWTH * small,
        {"seconds": seconds, "peak_bytes": [small, large]},
    )
