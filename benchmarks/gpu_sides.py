"""What ``bench_gpu.py`` measures, each in a process of its own, which tells a row as soon as it has one.

A row is ``{"what": ..., "figure": ..., "facts": {...}}``; ``READY`` says that all is warm, and waits for a line on standard
input, so that what disturbs nobody (imports, compilation) is done while something else is measured or tested.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from gpu_inputs import Sizes

    from geoseg.inference.engine import TileBatch
    from geoseg.models.model_folder import Model

READY = {"ready": True}
FP16 = " fp16"
"""Behind the name of a kind of network that computes in fp16 whatever the engine would choose."""
BATCHES = 4
"""Batches between two waits for the device."""


def _row(what: str, figure: str, **facts: Any) -> dict[str, Any]:
    return {"what": what, "figure": figure, "facts": facts}


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def versions(device: str) -> Iterator[dict[str, Any]]:
    """What the figures are measured on."""
    from importlib.metadata import PackageNotFoundError, version

    import onnxruntime
    import psutil
    import rasterio
    import torch

    from pipeline.plan.plan import code_version

    def of(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    cuda = device == "cuda"
    facts = {
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "torchvision": of("torchvision"),
        "segmentation-models-pytorch": of("segmentation-models-pytorch"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "driver": _told("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "onnxruntime": onnxruntime.__version__,
        "gdal": rasterio.__gdal_version__,
        "rasterio": rasterio.__version__,
        "pyogrio": of("pyogrio"),
        "numpy": of("numpy"),
        "lightning": of("lightning"),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "geoseg": code_version(),
        "commit": _told("git", "rev-parse", "--short", "HEAD"),
    }
    for what in ("python", "torch", "cuda", "cudnn", "gpu", "driver", "onnxruntime", "gdal", "cores", "geoseg", "commit"):
        yield _row(what, str(facts[what] if facts[what] is not None else "none"), **(facts if what == "python" else {}))


def _told(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None


def prepare(names: list[str], small: bool) -> Iterator[dict[str, Any]]:
    """Make inputs, one after the other."""
    from gpu_inputs import makers

    make = makers(small=small)
    for name in names:
        start = time.perf_counter()
        make[name]()
        yield _row(name, f"{time.perf_counter() - start:.1f} s", seconds=time.perf_counter() - start)


def networks(names: list[str], device: str, small: bool, kinds: list[str]) -> Iterator[dict[str, Any]]:
    """The rates of networks alone, and of the engine on tiles in memory.

    Kinds are ``eager`` and ``compiled``, as the engine computes, and the same with `` fp16`` behind. They are warm before
    ``READY``, and measured after it. The engine compiles if one of the kinds says so.
    """
    import torch
    from gpu_inputs import sizes

    measures = []
    for name in names:
        made = _Made(name, device, sizes(small=small), small=small, kinds=kinds)
        yield from made.warm_up()
        measures.append(made)
    yield READY
    sys.stdin.readline()
    for made in measures:
        yield from made.rates()
        made.close()
    if device == "cuda":
        peak = torch.cuda.max_memory_reserved()
        yield _row(f"{', '.join(names)}: memory of the device", f"{peak / 1e9:.1f} GB", bytes=peak)


class _Made:
    """One network, ready to be measured."""

    def __init__(self, name: str, device: str, size: Sizes, *, small: bool, kinds: list[str]) -> None:
        import torch
        from gpu_inputs import tile_of, when_made

        from geoseg.inference.normalization import Normalization
        from geoseg.inference.torch_engine import TorchEngine, load_network
        from geoseg.scenes.bands.value_map import ValueMap

        self.name, self._cuda, self._size = name, device == "cuda", size
        self._model: Model = when_made(name, small=small)
        bands = len(self._model.card.bands)
        self._tile = tile_of(bands, size.tile)
        normalization = Normalization.of(self._model.card, ValueMap((1.0,) * bands, (0.0,) * bands))
        scale, shift = (torch.from_numpy(v).view(-1, 1, 1).to(device) for v in normalization.arrays[:2])
        # Made in this mode as in the engine, whose tensors then fit what was compiled.
        with torch.inference_mode():
            image = torch.from_numpy(self._tile).to(device, torch.float32) * scale + shift
            # Each tile of a batch has objects in other places.
            tiles = [image.roll(97 * k, 2) for k in range(size.batch)]
            self._image = torch.stack(tiles).contiguous(memory_format=torch.channels_last)
        network = load_network(self._model).to(device).to(memory_format=torch.channels_last)
        ways = {"eager": lambda: network, "compiled": lambda: torch.compile(network, dynamic=False)}
        self._networks = {kind: ways[kind.removesuffix(FP16)]() for kind in kinds}
        self._engine = TorchEngine.open(self._model, normalization, device=device, compiled="compiled" in kinds)
        self._how = ", not compiled" if self._cuda and "compiled" not in kinds else ""

    def warm_up(self) -> Iterator[dict[str, Any]]:
        """The first pass of each."""
        for kind, network in self._networks.items():
            start = time.perf_counter()
            self._forward(kind, network)
            self._wait()
            seconds = time.perf_counter() - start
            yield _row(f"{self.name}: {kind}, warm-up", f"{seconds:.1f} s", seconds=seconds, compiles=kind == "compiled")
        start = time.perf_counter()
        self._through_engine(0.0)
        seconds = time.perf_counter() - start
        yield _row(f"{self.name}: engine{self._how}, warm-up", f"{seconds:.1f} s", seconds=seconds)

    def rates(self) -> Iterator[dict[str, Any]]:
        """Millions of pixels of tiles a second: the network alone, and the engine with its share of that."""
        rates, pixels = dict[str, float](), self._image.shape[0] * self._size.tile**2
        for kind, network in self._networks.items():
            rates[kind] = rate = self._measured(lambda kind=kind, network=network: self._forward(kind, network), pixels)  # type: ignore[misc]
            numbers = str(self._dtype(kind)).removeprefix("torch.")
            figure = f"{rate:.3g} Mpx/s in {numbers}"
            yield _row(f"{self.name}: network alone, {kind}", figure, mpx_s=rate, batch=self._image.shape[0], dtype=numbers)
        rate = rates.get("compiled") or rates["eager"]
        start = time.perf_counter()
        count = self._through_engine(self._size.seconds)
        own = count * self._size.tile**2 / (time.perf_counter() - start) / 1e6
        yield _row(
            f"{self.name}: engine alone{self._how}",
            f"{own:.3g} Mpx/s, {100 * own / rate:.0f} % of the network",
            mpx_s=own,
            share=own / rate,
            batch=self._engine.batch,
            device=self._engine.device,
        )

    def close(self) -> None:
        """Give the device's memory back before the next one."""
        del self._networks, self._engine, self._image

    def _measured(self, run: Callable[[], None], pixels: int) -> float:
        run()
        self._wait()
        done, start = 0, time.perf_counter()
        while (seconds := time.perf_counter() - start) < self._size.seconds or not done:
            for _ in range(BATCHES if self._cuda else 1):
                run()
                done += 1
            self._wait()
        seconds = time.perf_counter() - start
        return done * pixels / seconds / 1e6

    def _dtype(self, kind: str) -> torch.dtype:
        """In what a kind computes: 16 bits as the engine chooses them, or fp16; 32 on cores."""
        import torch

        from geoseg.inference.torch_engine import half_of_device

        if not self._cuda:
            return torch.float32
        return torch.float16 if kind.endswith(FP16) else half_of_device()

    def _forward(self, kind: str, network: Any) -> None:
        import torch

        with torch.inference_mode(), torch.autocast("cuda", dtype=self._dtype(kind), enabled=self._cuda):
            network(self._image)

    def _wait(self) -> None:
        import torch

        if self._cuda:
            torch.cuda.synchronize()

    def _through_engine(self, seconds: float) -> int:
        """Send tiles through the engine for so long, as runs do; returns their number."""
        from geoseg.inference.decision import Decision

        engine, count = self._engine, 0
        if self._model.card.instances is not None:
            for batch in self._batches(seconds):
                count += len(engine.channels(batch))
            return count
        for tiles in engine.classify(self._batches(seconds), Decision.of(self._model.card)):
            count += len(tiles)
        return count

    def _batches(self, seconds: float) -> Iterator[TileBatch]:
        """At least one batch, until the seconds are over."""
        import numpy as np

        from geoseg.inference.engine import TileBatch

        side, halo = self._size.tile, self._size.halo
        images = [np.roll(self._tile, 97 * k, 2) for k in range(max(2, self._engine.batch))]
        valid, core = np.ones((side, side), np.bool_), (slice(halo, side - halo), slice(halo, side - halo))
        endless, start = cycle(images), time.perf_counter()
        while True:
            tiles = list(islice(endless, self._engine.batch))
            yield TileBatch(tiles, [valid] * len(tiles), (side, side), [core] * len(tiles))
            if time.perf_counter() - start >= seconds:
                return


def decode(scene: str) -> Iterator[dict[str, Any]]:
    """All blocks of a scene, each decoded once, by so many threads with a handle each."""
    import rasterio
    from common import warm

    warm(Path(scene))
    with rasterio.open(scene) as dataset:
        windows = [window for _, window in dataset.block_windows(1)]
        pixels, size = dataset.width * dataset.height, dataset.count * dataset.width * dataset.height * 2
    for threads in sorted({1, 4, cores()}):
        shares = [windows[k::threads] for k in range(threads)]
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(_read_blocks, [scene] * threads, shares))
        seconds = time.perf_counter() - start
        what = f"{Path(scene).name}, {threads} thread{'s' if threads > 1 else ''}"
        yield _row(what, f"{seconds:.2f} s, {pixels / seconds / 1e6:.0f} Mpx/s", seconds=seconds, threads=threads, bytes=size)


def _read_blocks(scene: str, windows: list[Any]) -> None:
    import rasterio

    with rasterio.open(scene) as dataset:
        for window in windows:
            dataset.read(window=window)


def sampled_run(scene: str, model: str, out: str, config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A run in this process whose threads are looked at, from opened model to published files."""
    from gpu_stacks import Stacks, lines_of

    from geoseg.models.model_folder import load_model
    from geoseg.scenes.sources import list_scenes
    from pipeline.config.sections import Config
    from pipeline.infer.workers import LocalWorkers
    from pipeline.segment.folder import segment_folder

    loaded = load_model(model)
    scenes, refused = list_scenes([scene])
    start = time.perf_counter()
    with Stacks() as stacks:
        segment_folder(scenes, refused, loaded, Config.parse(config), Path(out), LocalWorkers)
    seconds = time.perf_counter() - start
    top = stacks.top()
    yield _row("run with sampled stacks", f"{seconds:.1f} s, {stacks.samples} samples", seconds=seconds, top=top)
    for line in lines_of(top):
        share, _, where = line.partition("% ")
        yield _row(where, f"{share.strip()} %")
