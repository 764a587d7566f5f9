"""Many chunks through the real rolling window, scheduler, workers and manifest, with a stub in place of the network."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, Row, Settings, call, fresh

from pipeline.infer.dask_plugin import ChunkPlugin
from pipeline.infer.receipt import Receipt

BAR_MS = 10.0
WORKERS, THREADS, SAMPLES = 2, 2, 200


class Stub(ChunkPlugin):
    """Does a chunk in no time; its receipt is as large as a real one."""

    def run(self, index: int) -> Receipt:
        """Do it."""
        digest = f"{index:064x}"
        return Receipt(
            index=index,
            status="done",
            files={f"{index:07d}.tif": digest, f"{index:07d}.npy": digest},
            pixels={"0": 12_000_000, "1": 4_777_216},
            area_m2={"0": 1.2e9, "1": 4.77e8},
            tiles=25,
            seconds={"read": 1.234567, "infer": 23.456789, "write": 0.123456},
            decoded=17_000_000,
        )


def simulate(chunks: int) -> dict[str, Any]:
    """Run that many chunks; milliseconds a chunk, and how the memory of the client and of the scheduler grows."""
    import numpy as np
    import psutil
    from data import frontier
    from distributed import Client
    from models import one_band

    from geoseg.models.model_folder import load_model
    from geoseg.scenes.sources import list_scenes
    from pipeline.config.sections import Config
    from pipeline.files.manifest import Manifest
    from pipeline.infer.dask_workers import DaskWorkers
    from pipeline.infer.run import infer
    from pipeline.infer.storage import open_storage
    from pipeline.plan.make import make_plan

    root = Path(fresh("scale"))
    (ref,), _ = list_scenes([str(frontier(1024))])
    config = Config.parse({"scene": {"bands": ["1"]}, "grid": {"chunk": 256, "tile": 256}})
    plan = replace(make_plan(ref, load_model(str(one_band())), config), active=tuple(range(chunks)), in_flight=THREADS)
    manifest = Manifest.open(root / "manifest.jsonl", {"simulation": chunks})
    file, dask = root / "scheduler.json", [sys.executable, "-m", "dask"]
    quiet: dict[str, Any] = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    here = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    processes = [subprocess.Popen([*dask, "scheduler", "--port", "0", *here], **quiet)]
    try:
        while not file.is_file():
            time.sleep(0.1)
        worker = [*dask, "worker", *here, "--nthreads", str(THREADS), "--local-directory", str(root)]
        processes += [subprocess.Popen(worker, **quiet) for _ in range(WORKERS)]
        sides = {"client": psutil.Process(), "scheduler": psutil.Process(processes[0].pid)}
        done, samples = 0, []

        def count(receipt: Receipt) -> None:
            nonlocal done
            del receipt
            done += 1
            if done % max(1, chunks // SAMPLES) == 0:
                samples.append((done, time.perf_counter(), *(side.memory_info().rss for side in sides.values())))
                np.savetxt(
                    RESULTS / "scale.csv", np.array(samples), fmt="%.3f", header="chunks,seconds,client,scheduler", delimiter=","
                )

        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(WORKERS)
            started = time.perf_counter()
            for _ in infer(
                plan,
                manifest,
                open_storage(str(root / "chunks")),
                lambda given, storage, _: DaskWorkers(client, given, storage, make_plugin=Stub),
                count,
            ):
                pass
            seconds = time.perf_counter() - started
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)
    table = np.array(samples)
    half = table[len(table) // 2 :]
    first, last = table[: len(table) // 10], table[-(len(table) // 10) :]
    return {
        "chunks": done,
        "seconds": seconds,
        "ms_per_chunk": 1000 * seconds / done,
        "ms_first_tenth": 1000 * float(np.polyfit(first[:, 0], first[:, 1], 1)[0]),
        "ms_last_tenth": 1000 * float(np.polyfit(last[:, 0], last[:, 1], 1)[0]),
        **{f"{name}_mb": table[-1, 2 + i] / 1e6 for i, name in enumerate(sides)},
        **{f"{name}_bytes_per_chunk": float(np.polyfit(half[:, 0], half[:, 2 + i], 1)[0]) for i, name in enumerate(sides)},
        "manifest_bytes_per_chunk": (root / "manifest.jsonl").stat().st_size / done,
    }


def scale_rows(settings: Settings) -> Iterator[Row]:
    """``--chunks`` chunks on a scheduler and two workers of this machine."""
    found = call("bench_scale:simulate", chunks=settings.chunks).result
    yield Row(
        "scale",
        f"{found['chunks']:,} simulated chunks on a scheduler and {WORKERS} workers, manifest included: overhead of each; "
        "growth of the client and of the scheduler a chunk",
        f"under {BAR_MS:g} ms; flat",
        f"{found['ms_per_chunk']:.1f} ms; {found['client_bytes_per_chunk']:.0f} B ({found['client_mb']:.0f} MB), "
        f"{found['scheduler_bytes_per_chunk']:.0f} B ({found['scheduler_mb']:.0f} MB)",
        found["ms_per_chunk"] < BAR_MS,
        found,
    )
