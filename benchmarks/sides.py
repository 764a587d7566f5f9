"""What is measured after imports, each in a process of its own; see ``common.call``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

NEEDED = (
    "jinja2",
    "onnxruntime",
    "PIL.Image",
    "PIL.ImageDraw",
    "PIL.PngImagePlugin",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "pyogrio.raw",
    "pystac",
    "urllib3",
    "geoseg.formats.page.compiled",
    "geoseg.formats.preview",
    "geoseg.inference.onnx_engine",
    "pipeline.cli.segment",
    "pipeline.cli.vectorize",
    "pipeline.segment.folder",
    "pipeline.infer.run",
    "pipeline.segment.progress",
    "pipeline.vectorize.file",
)
"""All that ``geoseg segment`` and ``geoseg vectorize`` come to import."""


def import_geoseg() -> None:
    """Import it."""
    import importlib

    for name in NEEDED:
        importlib.import_module(name)
    sys.modules["PIL.Image"].init()


def segment(scene: str, model: str, out: str, config: dict[str, Any]) -> dict[str, Any]:
    """``geoseg segment`` after imports: seconds, and what its report says."""
    import_geoseg()
    from geoseg.models.model_folder import load_model
    from geoseg.scenes.sources import list_scenes
    from pipeline.config.sections import Config
    from pipeline.infer.workers import LocalWorkers
    from pipeline.segment.folder import segment_folder

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


def detect(scene: str, model: str, config: dict[str, Any]) -> dict[str, Any]:
    """A network that finds objects, alone, on the pixels of the same tiles: its time depends on what it finds in them."""
    import numpy as np
    import torch

    from geoseg.inference.torch_engine import load_network
    from geoseg.models.model_folder import load_model
    from geoseg.scenes.reader import SceneReader

    plan = _plan(scene, model, config)
    loaded = load_model(model)
    mean, deviation = (
        np.array([getattr(band, name) for band in loaded.card.scaling], np.float32)[:, None, None] for name in ("mean", "stddev")
    )
    inputs = []
    with SceneReader(plan.scene, plan.bands) as reader:
        for tile in plan.grid.tiles():
            window = tile.window & plan.grid.scene
            assert window is not None
            pixels = reader.read(window).data
            rest = [(0, 0), (0, tile.window.height - window.height), (0, tile.window.width - window.width)]
            inputs.append(np.pad((pixels - mean) / deviation, rest, mode="edge").astype(np.float32)[None])
    if plan.engine == "onnx":
        import onnxruntime as ort

        session = ort.InferenceSession(str(Path(model) / "model.onnx"), providers=["CPUExecutionProvider"])
        infer = lambda image: session.run(None, {"image": image})  # noqa: E731
    else:
        network = load_network(loaded)
        infer = lambda image: network(torch.from_numpy(image))  # noqa: E731
    with torch.inference_mode():
        infer(inputs[0])
        start = time.perf_counter()
        for image in inputs:
            infer(image)
    return {"seconds": time.perf_counter() - start, "tiles": len(inputs), "engine": plan.engine}


def _plan(scene: str, model: str, config: dict[str, Any]) -> Any:
    from geoseg.models.model_folder import load_model
    from geoseg.scenes.sources import list_scenes
    from pipeline.config.sections import Config
    from pipeline.plan.make import make_plan

    scenes, _ = list_scenes([scene])
    return make_plan(scenes[0], load_model(model), Config.parse(config))


def read_and_write(scene: str, made: str, out: str) -> dict[str, Any]:
    """GDAL reads the scene and writes the files of a run, and nothing else, on all cores; also with a plain raster."""
    import pyarrow as pa
    import pyogrio.raw
    import rasterio

    with rasterio.open(f"{made}/classes.tif") as dataset:
        classes, profile, colors, tags = dataset.read(1), dataset.profile, dataset.colormap(1), dataset.tags()
    meta, table = pyogrio.raw.read_arrow(f"{made}/polygons.gpkg")
    cog = {
        "driver": "COG",
        "height": profile["height"],
        "width": profile["width"],
        "count": 1,
        "dtype": "uint8",
        "crs": profile["crs"],
        "transform": profile["transform"],
        "nodata": profile["nodata"],
        "compress": profile["compress"],
        "blocksize": profile["blockxsize"],
        "overview_resampling": "mode",
        "num_threads": "ALL_CPUS",
    }
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
        stream,
        f"{out}/polygons.gpkg",
        layer="polygons",
        driver="GPKG",
        geometry_name=meta["geometry_name"] or "wkb_geometry",
        geometry_type=meta["geometry_type"],
        crs=meta["crs"],
    )
    done = time.perf_counter()
    tiled = {key: value for key, value in cog.items() if key not in ("driver", "blocksize", "overview_resampling")}
    with rasterio.open(f"{out}/plain.tif", "w", driver="GTiff", tiled=True, blockxsize=512, blockysize=512, **tiled) as dataset:
        dataset.write(classes, 1)
    plain = time.perf_counter() - done
    return {
        "seconds": done - start,
        "read": read - start,
        "write raster": raster - read,
        "write polygons": done - raster,
        "seconds_without_overviews": done - raster + read - start + plain,
    }


def vectorize(raster: str, out: str) -> dict[str, Any]:
    """``geoseg vectorize`` after imports."""
    import_geoseg()
    from pipeline.config.sections import Config
    from pipeline.vectorize.file import vectorize_file

    start = time.perf_counter()
    count = vectorize_file(raster, [Path(out)], Config(), overwrite=True)
    return {"seconds": time.perf_counter() - start, "features": count}


def vectorize_naively(raster: str, out: str) -> dict[str, Any]:
    """The same the usual way: rasterio's shapes, then geopandas with the same attributes; areas and lengths are planar."""
    import geopandas as gpd
    import numpy as np
    import pandas as pd
    import pyarrow.parquet
    import pyogrio
    import rasterio.features
    import shapely.geometry

    del pyarrow, pyogrio  # loaded for their time
    start = time.perf_counter()
    with rasterio.open(raster) as dataset:
        classes, transform, crs = dataset.read(1), dataset.transform, dataset.crs
        names = {code: dataset.tags(1).get(f"class_{code}") for code in range(3)}
    pairs = [
        (shapely.geometry.shape(shape), int(value)) for shape, value in rasterio.features.shapes(classes, transform=transform)
    ]
    traced = time.perf_counter()
    frame = gpd.GeoDataFrame({"code": [value for _, value in pairs]}, geometry=[shape for shape, _ in pairs], crs=crs)
    frame.insert(0, "id", np.arange(len(frame)))
    frame["part"] = 0
    frame["class_name"] = frame["code"].map(names)
    frame["area_m2"] = frame.geometry.area.round(2)
    frame["perimeter_m"] = frame.geometry.length.round(2)
    for column in ("confidence_mean", "confidence_p10", "acquired", "model", "model_sha256"):
        frame[column] = pd.Series([None] * len(frame), dtype="object")
    frame["scene"] = Path(raster).stem
    attributed = time.perf_counter()
    if out.endswith(".parquet"):
        frame.to_parquet(out, write_covering_bbox=True)
    elif out.endswith(".geojson"):
        frame.to_crs("EPSG:4326").to_file(out, driver="GeoJSON", RFC7946="YES")
    else:
        frame.to_file(out)
    done = time.perf_counter()
    return {
        "seconds": done - start,
        "features": len(frame),
        "trace": traced - start,
        "attributes": attributed - traced,
        "write": done - attributed,
    }


def join(raster: str, work: str, block: int) -> dict[str, Any]:
    """Polygons of a raster with its attributes, in blocks of some size; and a digest of the set of polygons."""
    import_geoseg()
    import hashlib

    from geoseg.parallel import cores
    from geoseg.polygons.features import GEOMETRY, FeatureFacts
    from geoseg.scenes.opening import open_scene
    from geoseg.scenes.scene import OpenOptions
    from pipeline.files.class_rasters import RasterFile
    from pipeline.vectorize.run import vectorize as vectorize_raster
    from pipeline.vectorize.traced import VectorOptions

    start = time.perf_counter()
    source = RasterFile(open_scene([raster], "scene", OpenOptions()))
    facts = FeatureFacts(
        georeference=source.georeference,
        class_names={0: "water", 1: "forest", 2: "cleared"},
        has_confidence=False,
        scene="scene",
        acquired=None,
        model=None,
        model_sha256=None,
    )
    options = VectorOptions(wanted=(0, 1, 2), block=block, threads=cores())
    spool = vectorize_raster(source, facts, options, Path(work))
    seconds = time.perf_counter() - start
    polygons = sorted(bytes(wkb) for batch in spool.batches() for wkb in batch.column(GEOMETRY).to_pylist())
    digest = hashlib.sha256(b"".join(polygons)).hexdigest()
    return {"seconds": seconds, "features": spool.count, "vertices": sum(map(len, polygons)) // 16, "digest": digest}


def seams(scene: str, model: str, side: int, tile: int, halo: int) -> dict[str, Any]:
    """Tiles against one forward pass of a whole scene: differing pixels and scores, for a halo and for the exact one."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window as RasterioWindow

    from geoseg.grid import Grid
    from geoseg.inference.choice import open_engine
    from geoseg.inference.decision import Decision
    from geoseg.inference.engine import TileBatch
    from geoseg.inference.normalization import Normalization
    from geoseg.models.model_folder import load_model

    loaded = load_model(model)
    card = loaded.card
    with rasterio.open(scene) as dataset:
        data = dataset.read(window=RasterioWindow(0, 0, side, side))
        pixel_m = dataset.transform.a
    valid = np.ones(data.shape[1:], np.bool_)
    shift = tuple(-s.mean / s.stddev for s in card.scaling)
    ends = (-1e9,) * len(card.bands), (1e9,) * len(card.bands)
    engine = open_engine("onnx", loaded, Normalization(tuple(1 / s.stddev for s in card.scaling), shift, *ends))
    decision = Decision.of(card)

    def grid_of(margin: int) -> Grid:
        return Grid(side, side, tile=tile, halo=margin, stride=card.stride, chunk=4096)

    def scores_of(batch: TileBatch) -> Any:
        return engine.scores(batch)[0]

    extent = grid_of(halo).extent
    start = time.perf_counter()
    whole = scores_of(TileBatch([data], [valid], extent, [_all_of(side)]))
    classes, _, _ = decision.decide(np.ascontiguousarray(whole[:, :side, :side]), valid)
    facts: dict[str, Any] = {"side": side, "whole_s": time.perf_counter() - start}
    exact = card.exact_halo
    assert exact is not None
    for name, margin in (("halo", halo), ("exact", exact)):
        grid = grid_of(margin)
        differ, largest = 0, 0.0
        for part in grid.tiles():
            seen = part.window & grid.scene
            assert seen is not None
            rows, cols = seen.slices
            inner = part.core.slices_in(part.window)
            batch = TileBatch([data[:, rows, cols]], [valid[rows, cols]], part.window.shape, [inner])
            found = np.ascontiguousarray(scores_of(batch)[(slice(None), *inner)])
            own, _, _ = decision.decide(found, valid[part.core.slices])
            differ += int((own != classes[part.core.slices]).sum())
            largest = max(largest, float(np.abs(found - whole[(slice(None), *part.core.slices)]).max()))
        seam_km = ((grid.rows.tiles - 1) + (grid.cols.tiles - 1)) * side * pixel_m / 1000
        facts[name] = {
            "px": margin,
            "tiles": grid.n_tiles,
            "differing": differ,
            "share": differ / side**2,
            "per_km": differ / max(seam_km, 1e-9),
            "largest_difference": largest,
        }
    return facts


def _all_of(side: int) -> tuple[slice, slice]:
    """All rows and columns."""
    return slice(0, side), slice(0, side)
