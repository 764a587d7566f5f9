"""Keywords of the verbs.

Made by ``tests/front_doors.py`` from the commands and the sections of settings; not edited by hand.

Names and units are those of the command line; what is not given has the default that stands there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

__all__ = [
    "AdoptSettings",
    "AreaSettings",
    "CalibrateSettings",
    "CompositeSettings",
    "DeforestationSettings",
    "DeliverSettings",
    "EvaluateSettings",
    "GradeDamageSettings",
    "LoadSettings",
    "MatchSettings",
    "QuantizeSettings",
    "SampleSettings",
    "ScreenSettings",
    "SegmentSettings",
    "TrainSettings",
    "VectorizeSettings",
]


class _Scene(TypedDict, total=False):
    """The section ``scene``."""

    bands: Sequence[str] | None
    rescale: str | None
    resample: bool
    target_crs: str | None
    assume_crs: str | None
    pixel_coords: bool
    gcps: bool
    ignore_nodata: bool
    nodata: str | None
    on_bad_block: Literal["error", "mask"]
    clouds: str | None
    cloud_classes: Sequence[str] | None
    cloud_band: str | None
    clouds_buffer: str | None
    allow_vrt: bool
    sign: str | None
    max_pixels: int


class _Area(TypedDict, total=False):
    """The section ``area``."""

    aoi: str | Path | None
    aoi_column: str | None
    aoi_cut: Literal["pixels", "exact"]


class _Stac(TypedDict, total=False):
    """The section ``stac``."""

    collections: Sequence[str]
    bbox: tuple[float, float, float, float] | None
    datetime: str | None
    max_cloud_cover: float | None
    assets: Sequence[str] | None
    max_items: int


class _Dates(TypedDict, total=False):
    """The section ``dates``."""

    acquired: Sequence[str] | None
    masks: Sequence[str] | None
    mask_values: Sequence[int] | None
    mask_band: str | None
    coregister: Literal["auto", "measure", "off"]
    max_shift: float
    radiometry: Literal["none", "moments", "pif"]
    of: str
    change_rate: float
    least_area: str | None
    least_width: float


class _Grid(TypedDict, total=False):
    """The section ``grid``."""

    tile: int
    halo: int | Literal["exact"] | None
    chunk: int | None


class _Infer(TypedDict, total=False):
    """The section ``infer``."""

    task: Literal["auto", "semantic", "instances", "panoptic"]
    engine: Literal["auto", "onnx", "torch"]
    device: str
    provider: str
    compile: Literal["auto", "never", "always"]
    tta: Literal["none", "d4"]
    probabilities: bool
    uncertainty: bool
    threads: int
    batch: int
    memory: str | None
    tile_timeout: str


class _Vector(TypedDict, total=False):
    """The section ``vector``."""

    formats: Sequence[Literal["geojson", "gpkg", "fgb", "parquet", "pmtiles"]]
    classes: Sequence[str] | None
    min_area: str | None
    simplify: float
    smooth: int
    right_angles: bool
    style_table: bool
    simplestyle: bool
    max_vertices: int


class _Mosaic(TypedDict, total=False):
    """The section ``mosaic``."""

    order: Literal["date", "name", "distance-to-edge"]
    combine: Literal["latest", "best", "majority", "mean"]
    within: str | None


class _Composite(TypedDict, total=False):
    """The section ``composite``."""

    method: Literal["median", "mean", "best"]
    best: Literal["nearest", "medoid", "latest"]
    period: Literal["all", "year", "season", "month"]
    least: int


class _Run(TypedDict, total=False):
    """The section ``run``."""

    workers: int
    max_workers: int
    scheduler: str | None
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None
    scratch: str | None
    strict: bool
    overwrite: bool
    keep: bool
    confidence: bool
    date: str | None


class _Delivery(TypedDict, total=False):
    """The section ``delivery``."""

    status: Literal["draft", "final", "corrected"] | None
    event_time: str | None
    image_times: Sequence[str] | None
    sensors: Sequence[str] | None
    providers: Sequence[str] | None
    contact: Sequence[str] | None
    roads: str | None
    places: str | None
    place_column: str
    borders: str | None


class SegmentSettings(_Scene, _Area, _Stac, _Grid, _Infer, _Vector, _Mosaic, _Run, total=False):
    """Of ``geoseg segment``."""

    config: str | Path | None
    mosaic: bool
    composite: Literal["median", "mean", "best"] | None
    best: Literal["nearest", "medoid", "latest"]
    period: Literal["all", "year", "season", "month"]
    least: int


class VectorizeSettings(_Area, total=False):
    """Of ``geoseg vectorize``."""

    confidence: str | Path | Sequence[str | Path]
    names: Mapping[int, str]
    overwrite: bool
    classes: Sequence[str] | None
    min_area: str | None
    simplify: float
    smooth: int
    right_angles: bool
    style_table: bool
    simplestyle: bool
    max_vertices: int
    assume_crs: str | None
    pixel_coords: bool
    allow_vrt: bool
    sign: str | None
    task: Literal["auto", "semantic", "instances", "panoptic"]
    provider: str
    compile: Literal["auto", "never", "always"]
    probabilities: bool
    uncertainty: bool
    threads: int
    tile_timeout: str


class CompositeSettings(_Stac, _Composite, total=False):
    """Of ``geoseg composite``."""

    config: str | Path | None
    overwrite: bool
    bands: Sequence[str] | None
    target_crs: str | None
    assume_crs: str | None
    gcps: bool
    ignore_nodata: bool
    nodata: str | None
    on_bad_block: Literal["error", "mask"]
    clouds: str | None
    cloud_classes: Sequence[str] | None
    cloud_band: str | None
    clouds_buffer: str | None
    allow_vrt: bool
    sign: str | None
    max_pixels: int
    aoi: str | Path | None
    engine: Literal["auto", "onnx", "torch"]
    device: str
    provider: str
    threads: int
    memory: str | None


class DeforestationSettings(_Scene, _Area, _Stac, _Dates, _Grid, _Mosaic, total=False):
    """Of ``geoseg deforestation``."""

    from_classes: bool
    mosaic: bool
    zones: str | None
    config: str | Path | None
    engine: Literal["auto", "onnx", "torch"]
    device: str
    provider: str
    compile: Literal["auto", "never", "always"]
    tta: Literal["none", "d4"]
    probabilities: bool
    uncertainty: bool
    threads: int
    batch: int
    memory: str | None
    tile_timeout: str
    formats: Sequence[Literal["geojson", "gpkg", "fgb", "parquet", "pmtiles"]]
    classes: Sequence[str] | None
    min_area: str | None
    simplify: float
    smooth: int
    style_table: bool
    simplestyle: bool
    max_vertices: int
    workers: int
    max_workers: int
    scheduler: str | None
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None
    scratch: str | None
    strict: bool
    overwrite: bool
    keep: bool
    confidence: bool


class GradeDamageSettings(_Scene, _Stac, total=False):
    """Of ``geoseg damage``."""

    footprints: str | None
    labels: Sequence[str]
    label_column: str
    label_next: int | None
    weights: str | None
    buildings: str
    zones: str | None
    cell: float
    tolerance: float
    truth: str | Path | None
    truth_column: str
    overwrite: bool
    aoi: str | Path | None
    aoi_column: str | None
    acquired: Sequence[str] | None
    masks: Sequence[str] | None
    mask_values: Sequence[int] | None
    mask_band: str | None
    coregister: Literal["auto", "measure", "off"]
    max_shift: float
    radiometry: Literal["none", "moments", "pif"]
    provider: str
    compile: Literal["auto", "never", "always"]
    threads: int
    tile_timeout: str


class EvaluateSettings(TypedDict, total=False):
    """Of ``geoseg evaluate``."""

    names: Mapping[int, str]
    map: Mapping[str, str]
    column: str | None
    outside: str
    rename: tuple[str, str]
    allow_unpaired: bool
    plain: bool
    assume_crs: str | None
    boundary: Sequence[str]
    isbi: str | None
    seed: int
    baseline: str | Path | Sequence[str | Path]
    baseline_train: Sequence[str]
    baseline_bands: Sequence[str]
    baseline_methods: Sequence[str]
    overwrite: bool


class MatchSettings(TypedDict, total=False):
    """Of ``geoseg match``."""

    iou: float
    within: str | None
    classes: Sequence[str]
    sizes: Sequence[str]
    score: str
    assume_crs: str | None
    pairs: str | Path | None
    out: str | Path | None
    overwrite: bool


class TrainSettings(TypedDict, total=False):
    """Of ``geoseg train``."""

    set: Mapping[str, object]
    overwrite: bool


class CalibrateSettings(_Scene, _Grid, total=False):
    """Of ``geoseg calibrate``."""

    method: Literal["auto", "temperature", "vector", "isotonic", "cubic"]
    column: str | None
    holdout: float
    seed: int
    overwrite: bool
    task: Literal["auto", "semantic", "instances", "panoptic"]
    engine: Literal["auto", "onnx", "torch"]
    device: str
    provider: str
    compile: Literal["auto", "never", "always"]
    probabilities: bool
    uncertainty: bool
    threads: int
    batch: int
    memory: str | None
    tile_timeout: str


class QuantizeSettings(_Scene, _Grid, total=False):
    """Of ``geoseg quantize``."""

    column: str | None
    crops: int
    seed: int
    overwrite: bool
    task: Literal["auto", "semantic", "instances", "panoptic"]
    engine: Literal["auto", "onnx", "torch"]
    device: str
    provider: str
    compile: Literal["auto", "never", "always"]
    probabilities: bool
    uncertainty: bool
    threads: int
    batch: int
    memory: str | None
    tile_timeout: str


class AdoptSettings(_Grid, total=False):
    """Of ``geoseg adopt``."""

    name: str | None
    bands: Sequence[str]
    classes: Sequence[str]
    background: str | None
    gsd: str | float | None
    scale: float | None
    mean: Sequence[float]
    std: Sequence[float]
    data_type: Literal["uint8", "int8", "uint16", "int16", "float32"] | None
    value_range: Sequence[float]
    activation: Literal["softmax", "sigmoid", "none"] | None
    output: str | None
    architecture: str | None
    encoder: str | None
    preset: Literal["ftw"] | None
    largest_object: int | None
    norm_eps: float | None
    license: str | None
    description: str | None
    overwrite: bool
    rescale: str | None
    resample: bool
    target_crs: str | None
    assume_crs: str | None
    pixel_coords: bool
    gcps: bool
    ignore_nodata: bool
    nodata: str | None
    on_bad_block: Literal["error", "mask"]
    clouds: str | None
    cloud_classes: Sequence[str] | None
    cloud_band: str | None
    clouds_buffer: str | None
    allow_vrt: bool
    sign: str | None
    max_pixels: int
    task: Literal["auto", "semantic", "instances", "panoptic"]
    engine: Literal["auto", "onnx", "torch"]
    device: str
    provider: str
    compile: Literal["auto", "never", "always"]
    probabilities: bool
    uncertainty: bool
    threads: int
    batch: int
    memory: str | None
    tile_timeout: str


class SampleSettings(TypedDict, total=False):
    """Of ``geoseg sample``."""

    size: int | None
    target_se: float
    expected: Mapping[str, float]
    allocation: Literal["equal", "proportional", "neyman"]
    least: int
    around: Sequence[str]
    buffer: float
    blocks: int
    strata: str | None
    sure: float
    images: Sequence[str]
    seed: int
    overwrite: bool


class AreaSettings(TypedDict, total=False):
    """Of ``geoseg area``."""

    reference: str | None
    column: str | None
    outside: str | None
    value: Mapping[str, str]
    zones: str | Path | None
    nonresponse: Literal["refuse", "drop"]
    correction: bool
    out: str | Path | None
    table: str | Path | None
    page: str | Path | None
    overwrite: bool


class DeliverSettings(_Delivery, total=False):
    """Of ``geoseg deliver``."""

    aoi: str | Path | None
    assume_crs: str | None
    code: str
    aoi_id: str
    product: str
    version: int
    producer: str
    date: str | None
    disclaimer: str | None
    licence: str | None
    also: Sequence[Literal["fgb", "shp"]]
    interest: Sequence[str]
    cell: str
    radius: str
    sample: str | Path | None
    config: str | Path | None
    zip: bool
    overwrite: bool


class ScreenSettings(TypedDict, total=False):
    """Of ``geoseg screen``."""

    cell: str
    at_least: float
    top: int | None
    names: Mapping[int, str]
    assume_crs: str | None
    overwrite: bool


class LoadSettings(TypedDict, total=False):
    """Of ``geoseg load``."""

    schema: str
    project: str
    crs: str | None
