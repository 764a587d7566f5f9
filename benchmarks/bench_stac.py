"""A search of 10,000 STAC items becomes a list of scenes, and that their plan: seconds, over HTTP on loopback, nothing opened.

    python benchmarks/bench_stac.py [--items 10000]

The items have the assets, the extensions and the size of those of public catalogues of Sentinel-2 (17 assets, 14 kB).
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

BANDS = (
    ("B02", "blue"),
    ("B03", "green"),
    ("B04", "red"),
    ("B05", "rededge"),
    ("B06", "rededge"),
    ("B07", "rededge"),
    ("B08", "nir"),
    ("B8A", "nir08"),
    ("B11", "swir16"),
    ("B12", "swir22"),
)
PAGE = 250


def item(number: int) -> dict[str, object]:
    """An item, as catalogues of Sentinel-2 have them."""
    base = f"https://images.example/S2/{number}"
    place = {"proj:shape": [10980, 10980], "proj:transform": [10, 0, 600000, 0, -10, 9000000]}
    told = {"type": "image/tiff; application=geotiff; profile=cloud-optimized", "roles": ["data", "reflectance"], "gsd": 10}
    raster = {
        "nodata": 0,
        "data_type": "uint16",
        "bits_per_sample": 15,
        "spatial_resolution": 10,
        "scale": 0.0001,
        "offset": -0.1,
    }
    assets: dict[str, object] = {
        name: {
            "href": f"{base}/{name}.tif",
            "title": f"Band {name}",
            **told,
            **place,
            "eo:bands": [{"name": name, "common_name": common, "center_wavelength": 0.5, "full_width_half_max": 0.1}],
            "raster:bands": [raster],
            "file:size": 123456789,
            "file:checksum": "1220" + "ab" * 32,
        }
        for name, common in BANDS
    }
    for extra in ("visual", "aot", "wvp", "scl", "thumbnail", "granule_metadata", "tileinfo_metadata"):
        assets[extra] = {"href": f"{base}/{extra}.xml", "type": "application/xml", "roles": ["metadata"], "title": extra * 8}
    ring = [[-62.0 + i / 10, -10.0 + i / 10] for i in range(12)]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"S2A_20LLP_{number}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [-63, -11, -61, -9],
        "collection": "sentinel-2-l2a",
        "links": [{"rel": rel, "href": f"https://api.example/v1/{rel}/{number}"} for rel in ("self", "collection", "root")],
        "properties": {
            "datetime": "2024-06-07T14:00:00Z",
            "platform": "sentinel-2a",
            "eo:cloud_cover": 3.2,
            "proj:epsg": 32720,
            **{f"s2:property_{i}": i / 7 for i in range(40)},
        },
        "assets": assets,
    }


def serve(count: int, told: Connection) -> None:
    """Serve a catalogue, its pages made before."""
    pages = [json.dumps([item(number) for number in range(start, min(start + PAGE, count))]) for start in range(0, count, PAGE)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            base = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            links = [{"rel": "search", "href": f"{base}/search", "method": "POST"}]
            self._send(json.dumps({"type": "Catalog", "links": links}))

        def do_POST(self) -> None:
            number = json.loads(self.rfile.read(int(self.headers["Content-Length"]))).get("token", 0)
            base = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            link = {"rel": "next", "href": f"{base}/search", "method": "POST", "body": {"token": number + 1}, "merge": True}
            links = [link] if number + 1 < len(pages) else []
            self._send(f'{{"type": "FeatureCollection", "features": {pages[number]}, "links": {json.dumps(links)}}}')

        def _send(self, text: str) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.send((server.server_port, sum(map(len, pages)) / count))
    told.recv()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    count = parser.parse_args().items
    from geoseg.models.model_folder import load_model
    from geoseg.scenes.sources import list_scenes
    from geoseg.scenes.stac.search import StacSearch
    from pipeline.config.sections import Config
    from pipeline.plan.catalogued import catalogued, totals

    card, config = load_model("amazon-forest").card, Config()

    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=serve, args=(count, there), daemon=True)
    process.start()
    port, size = here.recv()
    wall, cpu = time.perf_counter(), time.process_time()
    search = StacSearch(bands=("red", "green", "blue", "nir"), max_items=count)
    scenes, refused = list_scenes([f"stac+http://127.0.0.1:{port}/"], search=search)
    listed = time.perf_counter() - wall
    plan = totals(list(catalogued(scenes, card, config)), card, config)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    here.send(None)
    process.join()
    assert not refused
    assert len(scenes) == count
    assert str(plan["scenes"]).startswith(f"{count:,}; size not known of 0")
    sys.stdout.write(
        f"{count:,} items of {size / 1000:.1f} kB: {wall:.2f} s to their plan ({listed:.2f} s to the list), "
        f"{cpu:.2f} s of CPU time\n"
    )


if __name__ == "__main__":
    main()
