"""Remote reads: a tiled COG on a server that answers after 50 ms, cold, by a plain rasterio loop and by SceneReader.

    python benchmarks/bench_remote.py [--side 4096] [--latency 0.05] [--threads N] [--repeat 3]

Loops over the file's blocks, and over chunks of 1024 px, one after the other with GDAL's own settings. All sides run in
processes of their own, alternating; medians; what they read is compared, outside of the time that is measured. The server is that
of all sides, and runs on the same cores: its requests and its CPU time are printed beside those of the side. ``disk`` is the loop
over blocks from a disk, not from the server: what decoding takes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
CHUNK = 1024
SIDES = ("blocks", "chunks", "geoseg")
DISK = "disk"


def make(path: Path, side: int) -> None:
    """A COG of one band, whose blocks compress little."""
    import numpy as np
    import rasterio

    rng = np.random.default_rng(0)
    profile = {"driver": "COG", "width": side, "height": side, "count": 1, "dtype": "uint16", "crs": "EPSG:32720"}
    transform = rasterio.Affine(10, 0, 6e5, 0, -10, 9e6)
    with rasterio.open(path, "w", **profile, transform=transform, compress="deflate", blocksize=256) as dataset:
        dataset.write(rng.integers(0, 1 << 12, (side, side), np.uint16), 1)


class Server(ThreadingHTTPServer):
    """Serves one file, each answer after a while."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, latency: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.file, self.size = path.open("rb"), path.stat().st_size
        self.latency, self.requests, self.lock = latency, 0, threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer a range."""
        server = self.server
        with server.lock:
            server.requests += 1
        time.sleep(server.latency)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), int(asked[2] or server.size - 1)) if asked else (0, server.size - 1)
        last = min(last, server.size - 1)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{server.size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"1"')
        self.end_headers()
        if self.command == "GET":
            with suppress(ConnectionError):
                # GDAL ends requests for whole files when it has seen enough.
                while first <= last:
                    first += os.sendfile(self.connection.fileno(), server.file.fileno(), first, last + 1 - first)

    def do_HEAD(self) -> None:
        """Answer with the size."""
        self.do_GET()


def windows(side: int) -> list[tuple[int, int]]:
    """Corners of the chunks."""
    return [(row, col) for row in range(0, side, CHUNK) for col in range(0, side, CHUNK)]


def plain(address: str, side: int, *, blocks: bool) -> NDArray[np.uint16]:
    """A loop over the windows: the file's blocks, as rasterio's manual has it, or the chunks."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    found = np.empty((side, side), np.uint16)
    with rasterio.open(address) as dataset:
        asked = [window for _, window in dataset.block_windows(1)]
        for window in asked if blocks else [Window(col, row, CHUNK, CHUNK) for row, col in windows(side)]:
            found[window.toslices()] = dataset.read(1, window=window)
    return found


def ours(address: str, side: int, threads: int) -> NDArray[np.uint16]:
    """The reader, told what will be read."""
    import numpy as np

    from geoseg.scenes.opening import open_scene
    from geoseg.scenes.reader import SceneReader
    from geoseg.windows import Window

    scene = open_scene([address])
    found = np.empty((side, side), np.uint16)
    with SceneReader(scene, (0,), threads=threads) as reader:
        chunks = [Window.at(corner, (CHUNK, CHUNK)) for corner in windows(side)]
        reader.expect(chunks)
        for chunk in chunks:
            found[chunk.slices] = reader.read(chunk).data[0]
    return found


def main() -> None:
    """Measure both sides, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=(*SIDES, DISK))
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        name, address = args.run
        import pyproj  # noqa: F401 - imports are not measured
        import rasterio  # noqa: F401

        import geoseg.scenes.opening
        import geoseg.scenes.reader  # noqa: F401

        started, cpu = time.perf_counter(), time.process_time()
        mine = name == "geoseg"
        found = ours(address, args.side, args.threads) if mine else plain(address, args.side, blocks=name != "chunks")
        taken = time.perf_counter() - started, time.process_time() - cpu
        sys.stdout.write(json.dumps([*taken, hashlib.sha256(found.tobytes()).hexdigest()]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        make(path, args.side)
        server = Server(path, args.latency)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = (*SIDES, DISK) if args.only is None else (args.only,)
        results: dict[str, list[float]] = {name: [] for name in names}
        digests = set()
        for name in names * args.repeat:
            server.requests, cpu_before = 0, time.process_time()
            command = [sys.executable, __file__, "--side", str(args.side), "--run", name]
            command += [str(path) if name == DISK else f"http://127.0.0.1:{server.server_port}/scene.tif"]
            command += ["--threads", str(args.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, cpu, digest = json.loads(done.stdout)
            results[name].append(seconds)
            digests.add(digest)
            size = path.stat().st_size / 1e6
            told = f"{seconds:.2f} s, {cpu:.2f} s of CPU time, {server.requests} requests, {size:.0f} MB"
            told += f"; the server {time.process_time() - cpu_before:.2f} s"
            sys.stdout.write(f"{name}: {told}\n")
        server.shutdown()
    assert len(digests) == 1, "all sides read the same pixels"
    medians = {name: median(seconds) for name, seconds in results.items()}
    for name in SIDES[:2] if args.only is None else ():
        sys.stdout.write(f"geoseg against {name}: {medians[name] / medians['geoseg']:.1f} times\n")


if __name__ == "__main__":
    main()
