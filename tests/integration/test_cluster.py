"""Dask: the same bytes as in one process, also when workers die."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import rasterio
from support import ROOT, contents, run_cli

from geoseg.procedural import Frontier

OPTIONS = ("--tile", "256", "--halo", "32", "--chunk", "256")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "frontier.tif"
    Frontier(1100, 1300).write(path)
    return path


@pytest.fixture(scope="module")
def alone(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The final files of a run in one process."""
    out = tmp_path_factory.mktemp("alone")
    done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", out, *OPTIONS])
    assert done.returncode == 0, done.stderr
    return contents(out / "frontier")


def test_workers(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path, *OPTIONS, "--workers", "2"])
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "frontier") == alone


def test_a_killed_worker_costs_nothing_but_time(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "segment",
        str(scene),
        "-m",
        "amazon-forest",
        "-o",
        str(tmp_path),
        *OPTIONS,
        "--workers",
        "2",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    manifest = tmp_path / "frontier" / ".run" / "manifest.jsonl"
    while not (manifest.is_file() and manifest.read_bytes().count(b'"chunk":') > 2):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
    workers[-1].kill()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert contents(tmp_path / "frontier") == alone


def test_a_cluster_that_is_there(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    """A scheduler and a worker of the ``dask`` command, found through a scheduler file."""
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    common = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)], **common
    )
    worker = None
    try:
        deadline = time.monotonic() + 60
        while not file.is_file():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        worker = subprocess.Popen(
            [*dask, "worker", "--scheduler-file", str(file), "--host", "127.0.0.1", "--nthreads", "2", "--no-dashboard",
             "--local-directory", str(tmp_path / "worker")], **common
        )  # fmt: skip
        done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path / "out", *OPTIONS, "--scheduler", file])
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / "out" / "frontier") == alone
    finally:
        for process in (worker, scheduler):
            if process is not None:
                process.terminate()
                process.wait(30)


def test_no_scheduler_there(scene: Path, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": "tcp://127.0.0.1:9"}))
    done = run_cli(
        ["segment", scene, "-m", "amazon-forest", "-o", tmp_path / "out", "--scheduler", file], env={"GEOSEG_CONNECT_S": "3"}
    )
    assert done.returncode == 2
    assert "run.scheduler" in done.stderr


def test_results_of_all_layers_are_readable(scene: Path, tmp_path: Path) -> None:
    done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path, *OPTIONS, "--keep", "--no-confidence"])
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "frontier" / "confidence.tif").exists()
    for path in (tmp_path / "frontier" / ".run" / "chunks").glob("*.tif"):
        with rasterio.open(path) as dataset:
            assert dataset.count == 2
