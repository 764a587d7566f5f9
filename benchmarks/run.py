"""Measure the figures of ``docs/performance.md`` here and now, and print them as a table.

    python benchmarks/run.py [--only NAME ...] [--repeat N] [--long]

Inputs and models are made the first time and kept in ``benchmarks/results``, where all that was measured goes as JSON.
The whole takes about an hour on two cores, most of it the network's; ``--long`` adds a scene of 32768 x 32768 pixels.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from bench_area import area_rows
from bench_cluster import cluster_rows
from bench_export import export_rows
from bench_flows import flows_rows
from bench_memory import growth_rows, memory_rows, sparse_rows
from bench_mosaic import mosaic_rows
from bench_products import products_rows
from bench_scale import scale_rows
from bench_scan import scan_rows
from bench_scene import forward_rows, integers_rows, pipeline_rows, scene_rows
from bench_seams import seams_rows
from bench_start import start_rows
from bench_vectorize import chunks_rows, vectorize_rows
from common import OUT, RESULTS, Row, Settings, machine

BENCHMARKS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "scene": scene_rows,
    "forward": forward_rows,
    "export": export_rows,
    "integers": integers_rows,
    "pipeline": pipeline_rows,
    "seams": seams_rows,
    "memory": memory_rows,
    "growth": growth_rows,
    "start": start_rows,
    "vectorize": vectorize_rows,
    "chunks": chunks_rows,
    "sparse": sparse_rows,
    "area": area_rows,
    "mosaic": mosaic_rows,
    "products": products_rows,
    "scan": scan_rows,
    "scale": scale_rows,
    "cluster": cluster_rows,
    "flows": flows_rows,
}
ON_REQUEST = {"forward": "scene measures it, too", "memory": "takes minutes; --long", "growth": "takes minutes"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what geoseg is to reach.")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=f"some of {', '.join(BENCHMARKS)}")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="measurements of each side [default: 3]")
    parser.add_argument("--long", action="store_true", help="with the scene of 32768 x 32768 pixels")
    parser.add_argument("--chunks", type=int, default=100_000, metavar="N", help="chunks of the simulation [default: 100000]")
    options = parser.parse_args()
    names = options.only or [name for name in BENCHMARKS if name not in ON_REQUEST or (name == "memory" and options.long)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += BENCHMARKS[name](Settings(repeat=max(1, options.repeat), chunks=options.chunks))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    document = {"machine": machine(), "repeat": options.repeat, "rows": [row.to_json() for row in rows]}
    path = RESULTS / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    path.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    shutil.rmtree(OUT, ignore_errors=True)
    print(table(rows))
    print(f"\n{path.relative_to(RESULTS.parent.parent)}", file=sys.stderr)
    sys.exit(0 if all(row.ok for row in rows) else 1)


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| what | bar | measured | ok |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {row.what} | {row.bar} | {row.measured} | {'yes' if row.ok else '**no**'} |" for row in rows])


if __name__ == "__main__":
    main()
