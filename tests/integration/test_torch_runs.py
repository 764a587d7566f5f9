"""Runs with torch on the CPU, as on a GPU: the same bytes whatever chunks, threads and batches, also stopped and gone on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import LIMIT_S, ROOT, WriteRaster, run_cli

torch = pytest.importorskip("torch")

from geoseg.models.model_folder import Model  # noqa: E402 - what follows needs torch
from geoseg.scenes.sources import SceneRef  # noqa: E402
from pipeline.config.sections import Config  # noqa: E402
from pipeline.infer.receipt import Receipt  # noqa: E402
from pipeline.plan.engine_choice import Placement  # noqa: E402
from pipeline.segment.placed import keep_placement  # noqa: E402
from pipeline.segment.planned import SceneJob  # noqa: E402
from pipeline.segment.progress import Quiet  # noqa: E402
from pipeline.segment.run import segment_scene  # noqa: E402

GPU_LIKE = Placement("torch", one_shape=True, why="as on a GPU")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small U-Net with its weights."""
    from geoseg.models.networks.build import build_network
    from geoseg.models.networks.config import NetworkConfig
    from geoseg.models.saving import save_model

    torch.manual_seed(3)
    config = NetworkConfig("unet-2015", "", 3, 4, {"padding": "same", "width": 4, "depth": 2})
    facts = {
        "name": "small",
        "description": "made by a test",
        "license": "Apache-2.0",
        "bands": ("red", "green", "blue"),
        "scaling": [{"mean": 100.0, "stddev": 50.0}] * 3,
        "classes": [{"value": i, "name": f"class {i}", "color": f"#{40 * i + 20:02x}8040"} for i in range(4)],
    }
    return save_model(build_network(config), config, tmp_path_factory.mktemp("models") / "small", facts, tile=64)


@pytest.fixture
def scene(write_raster: WriteRaster) -> Path:
    rng = np.random.default_rng(2)
    image = np.repeat(np.repeat(rng.integers(1, 255, (3, 36, 32)), 15, axis=1), 17, axis=2)
    image[:, :90, :130] = 0
    return write_raster((image + rng.integers(0, 9, image.shape)).clip(0, 255).astype(np.uint8) * (image > 0), nodata=0)


class StopAfter(Quiet):
    """Stops a run as Ctrl-C does, when some chunks are done."""

    def __init__(self, chunks: int) -> None:
        self._left = chunks

    def chunk(self, receipt: Receipt) -> None:
        del receipt
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def config(**infer: object) -> Config:
    chunk = infer.pop("chunk", 256)
    return Config.parse(
        {
            "infer": {"engine": "torch", "device": "cpu", **infer},
            "grid": {"tile": 192, "halo": 24, "chunk": chunk},
            "vector": {"formats": ()},
        }
    )


def run(scene: Path, model: Model, out: Path, settings: Config, placement: Placement | None, stop: int = 0) -> dict[str, bytes]:
    ref = SceneRef("scene", (str(scene),))
    if placement is not None:
        keep_placement(SceneJob.of(ref, model, settings, out), placement)
    if stop:
        with pytest.raises(KeyboardInterrupt):
            segment_scene(ref, model, settings, out, progress=StopAfter(stop))
    report = segment_scene(ref, model, settings, out)
    assert report.status == "done"
    return {name: (out / "scene" / name).read_bytes() for name in ("classes.tif", "confidence.tif")}


@pytest.mark.parametrize("placement", [None, GPU_LIKE], ids=["cut", "one shape"])
def test_chunks_batches_and_interruptions_do_not_matter(
    placement: Placement | None, scene: Path, model: Model, tmp_path: Path
) -> None:
    plain = run(scene, model, tmp_path / "plain", config(), placement)
    # Where tiles have several shapes, oneDNN may take another kernel for another batch, which rounds otherwise.
    several, three = ({}, {}) if placement is None else ({"batch": 5}, {"batch": 3})
    ways: dict[str, Callable[[Path], dict[str, bytes]]] = {
        "small chunks": lambda out: run(scene, model, out, config(chunk=700), placement),
        "batches": lambda out: run(scene, model, out, config(threads=1, **several), placement),
        "interrupted": lambda out: run(scene, model, out, config(**three), placement, stop=4),
    }
    for name, way in ways.items():
        assert way(tmp_path / name) == plain, name
    identity = json.loads((tmp_path / "plain" / "scene" / "chunks.json").read_text())["identity"]
    assert identity["grid"][6:] == ([] if placement is None else [True])
    assert "compiled" not in identity


def test_a_run_goes_on_as_it_began(scene: Path, model: Model, tmp_path: Path) -> None:
    """What its folder holds by then is for other scenes."""
    expected = run(scene, model, tmp_path / "plain", config(), GPU_LIKE)
    ref, out, settings = SceneRef("scene", (str(scene),)), tmp_path / "out", config()
    keep_placement(SceneJob.of(ref, model, settings, out), GPU_LIKE)
    with pytest.raises(KeyboardInterrupt):
        segment_scene(ref, model, settings, out, progress=StopAfter(3))
    for kept in out.glob(".geoseg-placement-*"):
        kept.unlink()
    seen: list[int] = []

    class Count(Quiet):
        def chunk(self, receipt: Receipt) -> None:
            seen.append(receipt.index)

    segment_scene(ref, model, settings, out, progress=Count())
    assert len(seen) < len(json.loads((out / "scene" / "chunks.json").read_text())["chunks"])
    assert {name: (out / "scene" / name).read_bytes() for name in expected} == expected


@pytest.mark.slow
def test_processes_give_the_same_bytes(scene: Path, model: Model, tmp_path: Path) -> None:
    """As ``--device cuda:all`` has them, one on each GPU; here on cores."""
    from pipeline.infer.choose import workers_for

    settings = Config.parse({**config(batch=3).model_dump(exclude_unset=True), "run": {"workers": 2}})
    ref = SceneRef("scene", (str(scene),))
    keep_placement(SceneJob.of(ref, model, settings, tmp_path / "out"), GPU_LIKE)
    with workers_for(settings) as open_workers:
        assert segment_scene(ref, model, settings, tmp_path / "out", open_workers=open_workers).status == "done"
    for name, content in run(scene, model, tmp_path / "plain", config(), GPU_LIKE).items():
        assert (tmp_path / "out" / "scene" / name).read_bytes() == content


@pytest.mark.slow
def test_killed_and_run_again(scene: Path, model: Model, tmp_path: Path) -> None:
    options = ("--engine", "torch", "--device", "cpu", "--tile", "192", "--halo", "24", "--chunk", "256", "--batch", "3")
    command = ["segment", str(scene), "-m", str(model.path), *options]
    assert run_cli([*command, "-o", tmp_path / "plain"]).returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *command, "-o", str(tmp_path / "out")], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    manifest = tmp_path / "out" / scene.stem / ".run" / "manifest.jsonl"
    end = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < end:
        if manifest.is_file() and manifest.read_bytes().count(b'"chunk":') > 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LIMIT_S)
    assert run_cli([*command, "-o", tmp_path / "out"]).returncode == 0
    for name in ("classes.tif", "confidence.tif"):
        assert (tmp_path / "out" / scene.stem / name).read_bytes() == (tmp_path / "plain" / scene.stem / name).read_bytes()
