"""Killed at any time and run again, a scene has the same bytes as one that was never interrupted."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from support import LIMIT_S, ROOT, WriteRaster, call_cli, contents, run_cli

from geoseg.models.model_folder import Model
from geoseg.procedural import Frontier
from pipeline.files.manifest import Manifest

OPTIONS = ("--tile", "256", "--halo", "32", "--chunk", "256", "--min-area", "0.3ha")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "frontier.tif"
    Frontier(900, 1000).write(path)
    return path


@pytest.fixture(scope="module")
def undisturbed(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """The final files of a run without interruption, and how long it takes."""
    out = tmp_path_factory.mktemp("undisturbed")
    start = time.monotonic()
    done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", out, *OPTIONS])
    assert done.returncode == 0, done.stderr
    return contents(out / "frontier"), time.monotonic() - start


def start(scene: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline", "segment", str(scene), "-m", "amazon-forest", "-o", str(out), *OPTIONS, *more]
    # A shell that starts the tests in the background has them ignore Ctrl-C, and this process would inherit it.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, handler)


def wait_for_chunks(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    manifest = out / "frontier" / ".run" / "manifest.jsonl"
    while process.poll() is None:
        if manifest.is_file() and manifest.read_bytes().count(b'"chunk":') > count:
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1])


def kill_points(count: int) -> Iterator[float]:
    """Shares of a run's duration: some chosen at random, the same in each test run."""
    yield from np.sort(np.random.default_rng(3).uniform(0.15, 1.0, count)).round(3).tolist()


def check_killed(scene: Path, out: Path, undisturbed: tuple[dict[str, bytes], float], share: float) -> None:
    process = start(scene, out)
    time.sleep(share * undisturbed[1])
    process.kill()
    process.communicate()
    done = call_cli(["segment", scene, "-m", "amazon-forest", "-o", out, *OPTIONS])
    assert done.returncode == 0, done.stderr
    assert contents(out / "frontier") == undisturbed[0]
    assert not (out / "frontier" / ".run").exists()


@pytest.mark.parametrize("share", list(kill_points(2)))
def test_killed(scene: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], float], share: float) -> None:
    check_killed(scene, tmp_path, undisturbed, share)


@pytest.mark.slow
@pytest.mark.parametrize("share", list(kill_points(20)))
def test_killed_at_twenty_points(scene: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], float], share: float) -> None:
    check_killed(scene, tmp_path, undisturbed, share)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped(scene: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], float], number: int, code: int) -> None:
    process = start(scene, tmp_path)
    wait_for_chunks(tmp_path, 3, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, said
    assert "goes on from there" in said
    kept = len(Manifest.open(tmp_path / "frontier" / ".run" / "manifest.jsonl", read_identity(tmp_path)).chunks)
    assert kept >= 3
    done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path, *OPTIONS])
    assert f"{kept} of them done before" in done.stderr
    assert contents(tmp_path / "frontier") == undisturbed[0]


def read_identity(out: Path) -> dict[str, object]:
    identity = Manifest.read_identity(out / "frontier" / ".run" / "manifest.jsonl")
    assert identity is not None
    return identity


def test_a_second_run_on_the_same_output_is_refused(
    scene: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], float]
) -> None:
    process = start(scene, tmp_path)
    wait_for_chunks(tmp_path, 1, process)
    # It waits meanwhile: on a busy machine it might end before the second one begins.
    process.send_signal(signal.SIGSTOP)
    second = call_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path, *OPTIONS])
    process.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert f"process {process.pid}" in second.stderr
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert contents(tmp_path / "frontier") == undisturbed[0]


def test_damaged_chunks_are_done_again(scene: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], float]) -> None:
    process = start(scene, tmp_path)
    wait_for_chunks(tmp_path, 6, process)
    process.kill()
    process.communicate()
    chunks = sorted((tmp_path / "frontier" / ".run" / "chunks").glob("*.tif"))
    chunks[0].write_bytes(chunks[0].read_bytes()[:-7])
    data = bytearray(chunks[1].read_bytes())
    data[len(data) // 2] ^= 1
    chunks[1].write_bytes(data)
    chunks[2].unlink()
    manifest = tmp_path / "frontier" / ".run" / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-15])
    done = call_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path, *OPTIONS])
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "frontier") == undisturbed[0]


def test_a_second_run_does_nothing(scene: Path, tmp_path: Path, identity_model: Model, write_raster: WriteRaster) -> None:
    path = write_raster(np.ones((70, 80), np.uint8))
    args = ["segment", path, "-m", identity_model.path, "-o", tmp_path / "out"]
    assert call_cli(args).returncode == 0
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "scene").iterdir()}
    again = call_cli(args)
    assert again.returncode == 0
    assert "skipped" in again.stderr
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "scene").iterdir()} == before
    # Other settings would replace what is there, which has to be said.
    other = call_cli([*args, "--tta", "d4"])
    assert other.returncode == 1
    # It names what differs, with both values.
    assert "(--tta was none, is d4); use --overwrite" in other.stderr
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "scene").iterdir()} == before
    assert call_cli([*args, "--tta", "d4", "--overwrite"]).returncode == 0


def test_changed_while_it_was_read(scene: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tif"
    copy.write_bytes(scene.read_bytes())
    process = start(copy, tmp_path / "out")
    manifest = tmp_path / "out" / "copy" / ".run" / "manifest.jsonl"
    while not (manifest.is_file() and manifest.read_bytes().count(b'"chunk":') > 2):
        assert process.poll() is None
        time.sleep(0.02)
    os.utime(copy, (1, 1))
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "changed while it was read" in said
    assert not (tmp_path / "out" / "copy" / "classes.tif").exists()


def test_poisoned_chunk(write_raster: WriteRaster, poison_model: Model, tmp_path: Path) -> None:
    image = np.full((512, 768), 50, np.uint8)
    image[300, 700] = 230
    path = write_raster(image)
    done = run_cli(
        ["segment", path, "-m", poison_model.path, "-o", tmp_path / "out", "--tile", "256", "--halo", "0", "--chunk", "256"]
    )
    assert done.returncode == 1, done.stderr
    with rasterio.open(tmp_path / "out" / "scene" / "classes.tif") as dataset:
        codes = dataset.read(1)
    assert (codes[256:, 512:] == 254).all()
    assert (codes == 254).sum() == 256 * 256
    report = json.loads((tmp_path / "out" / "scene" / "run.json").read_text())
    assert report["status"] == "partial"
    (failed,) = report["not_analysed"]
    assert failed["window"] == {"row_off": 256, "col_off": 512, "height": 256, "width": 256}
    assert "NaN" in failed["reason"]
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert index["scenes"][0]["status"] == "partial"


def test_full_disk(scene: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], float]) -> None:
    """A limit on the size of files stands for a disk that is full: nothing half-written is published."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path, *OPTIONS], preexec_fn=limit)
    assert done.returncode != 0
    assert not (tmp_path / "frontier" / "run.json").exists()
    assert not (tmp_path / "frontier" / "classes.tif").exists()
    assert "Traceback" not in done.stderr
    done = call_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path, *OPTIONS])
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "frontier") == undisturbed[0]
