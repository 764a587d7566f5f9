"""What Prefect adds to a scene."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import Row, Settings, call, fresh

BAR_S = 5.0


def flow_and_plain(repeat: int) -> dict[str, Any]:
    """Seconds of one scene as a flow on a server that runs, and without Prefect; in turn, after imports."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = Path(fresh("prefect"))
    home.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "flows.server", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.2)
        from data import frontier

        from flows.segment import segment_scene as as_flow
        from geoseg.models.model_folder import load_model
        from geoseg.scenes.sources import list_scenes
        from pipeline.config.sections import Config
        from pipeline.segment.run import segment_scene

        path = frontier(1024)
        (ref,), _ = list_scenes([str(path)])
        model = load_model("amazon-forest")
        seconds: dict[str, list[float]] = {"flow": [], "plain": []}
        for number in range(repeat + 1):
            for name, measured in seconds.items():
                out = Path(fresh(f"{name}{number}"))
                start = time.perf_counter()
                if name == "flow":
                    as_flow([str(path)], "amazon-forest", str(out))
                else:
                    segment_scene(ref, model, Config(), out)
                measured.append(time.perf_counter() - start)
    finally:
        server.terminate()
        server.wait(30)
    # The first of each warms the caches.
    return {name: values[1:] for name, values in seconds.items()}


def flows_rows(settings: Settings) -> Iterator[Row]:
    """A small scene, where what is added shows most."""
    found = call("bench_flows:flow_and_plain", repeat=settings.repeat).result
    added = statistics.median(found["flow"]) - statistics.median(found["plain"])
    yield Row(
        "flows",
        "1024 x 1024 as a Prefect flow on a server that runs, against without Prefect: what is added",
        f"under {BAR_S:g} s",
        f"{added:.1f} s",
        added < BAR_S,
        found,
    )
