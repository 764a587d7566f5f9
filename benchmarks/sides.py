"""What is measured after imports, each in a process of its own; see ``common.call``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


def import_geoseg() -> None:
    """Import all that ``geoseg segment`` and ``geoseg vectorize`` come to need."""
    import onnxruntime
    import PIL.Image
    import PIL.ImageDraw
    import PIL.PngImagePlugin
    import pyarrow.pandas_compat
    import pyarrow.parquet
    import pyogrio.raw
    import pystac
    import urllib3  # noqa: F401 - loaded for its time

    import geoseg.formats.preview
    import geoseg.inference.onnx_engine
    import pipeline.cli.segment
    import pipeline.folder
    import pipeline.progress
    import pipeline.vectorize_file  # noqa: F401 - loaded for its time

    PIL.Image.init()


def segment(scene: str, model: str, out: str, config: dict[str, Any]) -> dict[str, Any]:
    """``geoseg segment`` after imports: seconds, and what its report says."""
    import_geoseg()
    from geoseg.models.folder import load_model
    from geoseg.scenes.sources import list_scenes
    from pipeline.config import Config
    from pipeline.folder import segment_folder
    from pipeline.infer import LocalWorkers

    start = time.perf_counter()
    loaded = load_model(model)
    scenes, refused = list_scenes([scene])
    (report,) = segment_folder(scenes, refused, loaded, Config.parse(config), Path(out), LocalWorkers)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, **report_of(Path(out) / report.scene)}


def report_of(folder: Path) -> dict[str, Any]:
    """What a run says of itself."""
    report = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    facts = {key: report[key] for key in ("status", "features", "chunks")}
    return {**facts, "stages": report["seconds"], "steps": report["seconds_by_step"]}


def forward(scene: str, model: str, config: dict[str, Any]) -> dict[str, Any]:
    """The network alone on the tiles of a run: a session with ONNX Runtime's defaults, inputs made ready before."""
    import numpy as np
    import onnxruntime as ort

    plan = _plan(scene, model, config)
    loaded = Path(model) / "model.onnx"
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(loaded), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    shapes = [tile.window.shape for tile in plan.grid.tiles()]
    inputs = {shape: rng.standard_normal((1, len(plan.bands), *shape), np.float32) for shape in set(shapes)}
    session.run(None, {"image": inputs[shapes[0]]})
    start = time.perf_counter()
    for shape in shapes:
        session.run(None, {"image": inputs[shape]})
    return {"seconds": time.perf_counter() - start, "tiles": len(shapes), "pixels": sum(h * w for h, w in shapes)}


def forward_torch(scene: str, model: str, config: dict[str, Any]) -> dict[str, Any]:
    """The same with the two-layer network on torch, channels last."""
    import models
    import torch

    plan = _plan(scene, model, config)
    network = models.two_layer_network().to(memory_format=torch.channels_last)
    shapes = [tile.window.shape for tile in plan.grid.tiles()]
    inputs = {
        shape: torch.randn(1, len(plan.bands), *shape).contiguous(memory_format=torch.channels_last) for shape in set(shapes)
    }
    with torch.inference_mode():
        network(inputs[shapes[0]])
        start = time.perf_counter()
        for shape in shapes:
            network(inputs[shape])
    return {"seconds": time.perf_counter() - start, "tiles": len(shapes), "pixels": sum(h * w for h, w in shapes)}


def _plan(scene: str, model: str, config: dict[str, Any]) -> Any:
    from geoseg.models.folder import load_model
    from geoseg.scenes.sources import list_scenes
    from pipeline.config import Config
    from pipeline.plan import make_plan

    scenes, _ = list_scenes([scene])
    return make_plan(scenes[0], load_model(model), Config.parse(config))


def read_and_write(scene: str, made: str, out: str) -> dict[str, Any]:
    """GDAL reads the scene and writes the files of a run, and nothing else; all cores."""
    import pyarrow as pa
    import pyogrio.raw
    import rasterio

    with rasterio.open(f"{made}/classes.tif") as dataset:
        classes, profile, colors, tags = dataset.read(1), dataset.profile, dataset.colormap(1), dataset.tags()
    meta, table = pyogrio.raw.read_arrow(f"{made}/polygons.gpkg")
    cog = {
        "driver": "COG", "height": profile["height"], "width": profile["width"], "count": 1, "dtype": "uint8", "crs": profile["crs"],
        "transform": profile["transform"], "nodata": profile["nodata"], "compress": profile["compress"],
        "blocksize": profile["blockxsize"], "overview_resampling": "mode", "num_threads": "ALL_CPUS",
    }  # fmt: skip
    start = time.perf_counter()
    with rasterio.open(scene, num_threads="ALL_CPUS") as dataset:
        dataset.read()
    read = time.perf_counter()
    with rasterio.open(f"{out}/classes.tif", "w", **cog) as dataset:
        dataset.write(classes, 1)
        dataset.write_colormap(1, colors)
        dataset.update_tags(**tags)
    raster = time.perf_counter()
    stream = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
    pyogrio.raw.write_arrow(
        stream, f"{out}/polygons.gpkg", layer="polygons", driver="GPKG", geometry_name=meta["geometry_name"] or "wkb_geometry",
        geometry_type=meta["geometry_type"], crs=meta["crs"],
    )  # fmt: skip
    done = time.perf_counter()
    return {"seconds": done - start, "read": read - start, "write raster": raster - read, "write polygons": done - raster}
