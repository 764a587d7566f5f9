"""What the pipeline adds to a network that finds objects, alone on the same tiles, as a table in Markdown.

    python benchmarks/bench_accuracy.py joplin
    cd build/accuracy/joplin
    python ../../../benchmarks/bench_detection.py boundaries--distances--watershed-0 mask-r-cnn-0

Timed after imports: opening, reading, inference, joining over seams, tracing, all rasters and the GeoPackage on one side; on
the other the network on tiles that are in memory, normalized. The scene is that of ``bench_sahi.py``. Sides are measured in
turn; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench_sahi import mosaic
from common import call, fresh, in_turn, seconds_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    config = {"vector": {"formats": ["gpkg"]}}
    print("| network | engine | tiles | network alone, s | geoseg, s | ratio | of it inference |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        scene = mosaic(Path(work) / "scene.tif", args.times)
        for path in args.models:
            model = path.resolve()
            done = in_turn(
                {
                    "geoseg": lambda model=model: call(
                        "sides:segment", scene=scene, model=model, out=fresh("detection"), config=config
                    ),
                    "network": lambda model=model: call("sides:detect", scene=scene, model=model, config=config),
                },
                args.repeat,
            )
            whole, alone = seconds_of(done["geoseg"], "seconds"), seconds_of(done["network"], "seconds")
            infer = done["geoseg"][-1].result["stages"]["infer"]
            facts = done["network"][-1].result
            print(
                f"| {path.name} | {facts['engine']} | {facts['tiles']} | {alone:.1f} | {whole:.1f} | {whole / alone:.2f} | "
                f"{infer:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
