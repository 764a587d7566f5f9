"""The steps of ``bench_gpu.py``: each gives rows until its deadline."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common import ROOT, fresh
from gpu_given import NETWORK, Found, Given
from gpu_process import Child, Watch, gpu_words

NAIVE = ROOT / "benchmarks" / "naive.py"
NAIVE_IMPORTS_S, NAIVE_S_A_MPX = 12.0, 0.7
"""What the naive script takes, mostly for polygons."""
COMPILES_S = 15.0
"""A detector whose network needs longer than this to compile runs without that: its share would go into it."""
COMPILE_THREADS = "4"

CHILDREN: Mapping[str, tuple[list[str], list[str]]] = {
    "unet-resnet18": (["unet-resnet18"], ["eager", "compiled", "eager fp16", "compiled fp16"]),
    "unet-resnet50": (["unet-resnet50"], ["eager", "compiled"]),
    "amazon-forest": (["amazon-forest"], ["eager", "compiled"]),
    "mask-rcnn, eager": (["mask-rcnn"], ["eager"]),
    "mask-rcnn, compiled": (["mask-rcnn"], ["compiled"]),
}
"""Networks and kinds of the processes that measure them; all but the first are warmed up while the tests run."""


Step = Callable[[Given, float], Iterator[Found]]
"""Gives rows until a deadline."""


def _found(row: Mapping[str, Any]) -> Found:
    return Found(row["what"], row["figure"], row["facts"])


def versions(given: Given, deadline: float) -> Iterator[Found]:
    """What the figures are measured on."""
    yield from map(_found, Child.of("gpu_sides:versions", device=given.device).rows(deadline))


def network_child(given: Given, step: str) -> Child:
    """The process that measures the networks of a step."""
    names, kinds = CHILDREN[step]
    if not given.cuda:
        kinds = ["eager"]
    if given.small:
        # One process for all: on few cores, imports would be most of it.
        names = ["unet-resnet18", "amazon-forest", "mask-rcnn"]
    # Several may be at it at once.
    env = {"TORCHINDUCTOR_COMPILE_THREADS": COMPILE_THREADS}
    return Child.of("gpu_sides:networks", env, names=names, device=given.device, small=given.small, kinds=kinds)


def networks(given: Given, deadline: float) -> Iterator[Found]:
    """Networks alone, and the engine on tiles in memory."""
    step = given.step.removeprefix(NETWORK)
    first = next(iter(CHILDREN))
    if step != first and (given.small or (not given.cuda and step.endswith("compiled"))):
        why = f"measured with {first}, or not where sizes are small" if given.small else "CUDA devices only compile"
        yield Found("networks", f"skipped, {why}")
        return
    child = given.early.pop(step, None) or network_child(given, step)
    child.go()
    for row in child.rows(deadline):
        if "ready" in row:
            continue
        if row["facts"].get("compiles"):
            given.compile_s[step] = row["facts"]["seconds"]
        yield _found(row)


def _formats() -> str:
    return "gpkg" if importlib.util.find_spec("pyogrio") else "parquet"


def _run(given: Given, deadline: float, name: str, *, engine: str = "torch", compiled: bool = False) -> Iterator[Found]:
    """``geoseg segment`` as a whole process: seconds, stages, use of the GPU, peaks of memory."""
    scene, model = given.wait_for(name, deadline)
    kind = f"{engine}, compiled" if compiled else engine
    out = fresh(f"gpu-{name}-{kind.replace(', ', '-')}")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pipeline",
        "segment",
        scene,
        "--model",
        model,
        "--out",
        out,
        "--engine",
        engine,
        "--device",
        given.device,
        "--compile",
        "always" if compiled else "never",
        "--tile",
        str(given.size.tile),
        "--chunk",
        str(given.size.chunks[0]),
        "--formats",
        _formats(),
        "--quiet",
    ]
    start = time.monotonic()
    child = Child(command)
    watch = Watch(child.pid, gpu=given.cuda)
    try:
        list(child.lines(deadline))
        seconds = time.monotonic() - start
    finally:
        seen = watch.facts()
    folder = out / scene.stem
    report = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    given.runs[f"{name} {kind}"] = folder
    pixels, stages = _pixels(scene), report["seconds"]
    how = f"{report['plan']['engine']}{', compiled' if compiled else ''}, {scene.name}"
    facts = {"seconds": seconds, "stages": stages, "steps": report["seconds_by_step"], "features": report["features"], **seen}
    yield Found(f"{how}: whole process", f"{seconds:.1f} s, {pixels / seconds / 1e6:.3g} Mpx/s", facts)
    rate = pixels / max(1e-9, stages["infer"]) / 1e6
    words = ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items())
    yield Found(f"{how}: stages, s", f"{words}; infer {rate:.3g} Mpx/s; {report['features']:,} polygons")
    yield Found(f"{how}: memory", gpu_words(seen))


def _pixels(scene: Path) -> int:
    import rasterio

    with rasterio.open(scene) as dataset:
        return int(dataset.width * dataset.height)


def run_of(name: str) -> Step:
    """``geoseg segment`` with a network as it is."""
    return lambda given, deadline: _run(given, deadline, name)


def compiled_run_of(name: str) -> Step:
    """The same with the network compiled, which the engine did once before, alone; and how many pixels differ."""

    def step(given: Given, deadline: float) -> Iterator[Found]:
        if not given.cuda:
            yield Found("run", "skipped, CUDA devices only compile")
            return
        yield from _run(given, deadline, name, compiled=True)
        yield _differing(given, name, "torch", "torch, compiled")

    return step


def forest_on_cpu(given: Given, deadline: float) -> Iterator[Found]:
    """The same on ONNX Runtime, on all cores; and how many pixels differ."""
    yield from _run(given, deadline, "amazon-forest", engine="onnx")
    yield _differing(given, "amazon-forest", "torch", "onnx")


def _differing(given: Given, name: str, *kinds: str) -> Found:
    """The share of the pixels of which two runs say other classes."""
    import rasterio

    folders = [given.runs.get(f"{name} {kind}") for kind in kinds]
    if None in folders:
        return Found("pixels that differ", "skipped, the other run did not end")
    classes = []
    for folder in folders:
        with rasterio.open(f"{folder}/classes.tif") as dataset:
            classes.append(dataset.read(1))
    share = float((classes[0] != classes[1]).mean())
    return Found("pixels that differ", f"{100 * share:.4f} %", {"share": share})


def objects_run(given: Given, deadline: float) -> Iterator[Found]:
    """Mask R-CNN; compiled where that does not take all of its time."""
    seconds = given.compile_s.get("mask-rcnn, compiled")
    compiled = given.cuda and seconds is not None and seconds <= COMPILES_S
    if given.cuda and not compiled:
        why = "did not end" if seconds is None else f"took {seconds:.0f} s"
        yield Found("compilation", f"switched off for this run: that of the network alone {why}")
    yield from _run(given, deadline, "mask-rcnn", compiled=compiled)


def decode(given: Given, deadline: float) -> Iterator[Found]:
    """Nothing but reading."""
    scene, _ = given.wait_for("unet-resnet18", deadline)
    yield from map(_found, Child.of("gpu_sides:decode", scene=scene).rows(deadline))


def naive(given: Given, deadline: float) -> Iterator[Found]:
    """The script that a user writes, as a whole process, on the scene or on as much of it as there is time for."""
    scene, model = given.wait_for("unet-resnet18", deadline)
    left = deadline - time.monotonic()
    needs = {side: NAIVE_IMPORTS_S + NAIVE_S_A_MPX * side**2 / 1e6 for side in given.size.naive}
    side = next((side for side, seconds in needs.items() if seconds <= left), given.size.naive[-1])
    out = fresh("gpu-naive")
    batch = "16" if given.cuda else "1"
    command: list[str | Path] = [
        sys.executable,
        NAIVE,
        scene,
        model,
        out,
        "--device",
        given.device,
        "--batch",
        batch,
        "--side",
        str(side),
    ]
    start = time.monotonic()
    child = Child(command)
    watch = Watch(child.pid, gpu=given.cuda)
    try:
        told = json.loads(list(child.lines(deadline))[-1])
    finally:
        seen = watch.facts()
        shutil.rmtree(out, ignore_errors=True)
    seconds = time.monotonic() - start
    what = f"{scene.name}, {'all' if side == given.size.scene else f'its upper left {side} x {side}'}"
    facts = {"seconds": seconds, "side": side, "steps": told, **seen}
    yield Found(f"{what}: whole process", f"{seconds:.1f} s, {side**2 / seconds / 1e6:.3g} Mpx/s", facts)
    steps = {name: value for name, value in told.items() if name not in ("seconds", "features")}
    words = ", ".join(f"{name} {value:.1f}" for name, value in steps.items())
    yield Found(f"{what}: steps, s", f"{words}; {told['features']:,} polygons")
    yield Found(f"{what}: memory", gpu_words(seen))


def stacks(given: Given, deadline: float) -> Iterator[Found]:
    """Where a run of the scene spends its time; its chunks are of the other size."""
    scene, model = given.wait_for("unet-resnet18", deadline)
    out = fresh("gpu-sampled")
    config = {
        "grid": {"tile": given.size.tile, "chunk": given.size.chunks[1]},
        "infer": {"engine": "torch", "device": given.device, "compile": "never"},
        "vector": {"formats": [_formats()]},
    }
    yield from map(_found, Child.of("gpu_sides:sampled_run", scene=scene, model=model, out=out, config=config).rows(deadline))
    given.runs["sampled"] = out / scene.stem


def equal(given: Given, deadline: float) -> Iterator[Found]:
    """The bytes of the runs with either size of chunks, by the sums in their reports."""
    del deadline
    folders = [given.runs.get(name) for name in ("unet-resnet18 torch", "sampled")]
    sizes = " and ".join(map(str, given.size.chunks))
    if None in folders:
        yield Found(f"chunks of {sizes}", "skipped, not both runs have ended")
        return
    one, other = (json.loads(Path(f"{folder}/run.json").read_text(encoding="utf-8"))["files"] for folder in folders)
    for name in ("classes.tif", "confidence.tif", f"polygons.{_formats()}"):
        same = one[name]["sha256"] == other[name]["sha256"]
        facts = {"equal": same, "sha256": [one[name]["sha256"], other[name]["sha256"]]}
        yield Found(f"chunks of {sizes}: {name}", "equal" if same else "DIFFERENT", facts)
