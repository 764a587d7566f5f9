"""Time and memory of `geoseg deforestation` on pairs of procedural scenes, as a table in Markdown.

    python benchmarks/bench_pairs.py 5000 10000 20000

The network is a single convolution of one pixel, so that what is measured is everything else: reading both dates, comparing them,
the minimum mapping unit, polygons, rasters. `segment` of one date stands beside it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from common import DATA, geoseg
from models import red_forest

from geoseg.procedural import Frontier

BUDGET = "2GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", type=int, nargs="*", default=[5000, 10000, 20000])
    args = parser.parse_args()
    model = red_forest()
    print(
        f"| pixels, at --memory {BUDGET} | one date, s | peak MB | pair, s | peak MB | us a pixel of the pair "
        "|\n|---|---|---|---|---|---|"
    )
    for side in args.sides:
        with tempfile.TemporaryDirectory(dir=DATA) as work:
            paths = [Path(work) / "before.tif", Path(work) / "after.tif"]
            Frontier(side, side, 7, acquired="2014-07-01").write(paths[0])
            Frontier(side, side, 7, years=9, acquired="2023-07-01").write(paths[1])
            common = ["--model", model, "--memory", BUDGET, "--quiet", "--min-area", "0.5ha", "--formats", "gpkg"]
            one = geoseg("segment", paths[0], *common, "--out", Path(work) / "one", memory=True)
            shutil.rmtree(Path(work) / "one")
            pair = geoseg("deforestation", *paths, *common, "--least-area", "1ha", "--out", Path(work) / "pair", memory=True)
            print(
                f"| {side:,} x {side:,} | {one.seconds:.0f} | {one.peak_bytes / 1e6:.0f} | {pair.seconds:.0f} | "
                f"{pair.peak_bytes / 1e6:.0f} | {1e6 * pair.seconds / side**2:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
