"""Settings of a map: how a scene is opened and cut, how the network runs, and what polygons are made."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from geoseg.crs import check_crs
from pipeline.config.section import Section
from pipeline.config.units import parse_area, parse_bytes, parse_distance, parse_seconds, parse_values

__all__ = ["AreaConfig", "GridConfig", "InferConfig", "SceneConfig", "VectorConfig"]

MODEL = "model:"
"""What begins the name of a model that maps clouds."""
LAYERS = ("auto", "scl", "qa", "fmask", "udm2")
"""Quality layers of products."""


class SceneConfig(Section):
    """Settings for opening scenes, and for the values that the model gets of them."""

    bands: tuple[str, ...] | None = Field(
        None, description="Bands for the model, by number from 1 or by name, in its order: 4,3,2 or red,green,blue."
    )
    rescale: str | None = Field(
        None,
        description="Map pixel values to the model's range: LOW,HIGH; the product's own scale first, as 0,3000 for "
        "reflectances that count 10000 for 1; or auto, under which the scene looks most like the model's training.",
    )
    resample: bool = Field(default=False, description="Warp scenes to the pixel size that the model was trained on.")
    target_crs: str | None = Field(None, description="Warp scenes to this CRS, for example EPSG:32721.")
    assume_crs: str | None = Field(None, description="The CRS of files that have none.")
    pixel_coords: bool = Field(default=False, description="Accept images without a place on Earth; outputs are in pixels.")
    gcps: bool = Field(default=False, description="Warp images that are placed by ground control points only.")
    ignore_nodata: bool = Field(
        default=False, description="Take all pixels as data, whatever nodata value, mask or alpha band say."
    )
    nodata: str | None = Field(
        None,
        description="The pixel value that stands for no data, in all bands of the pixel, whatever the file says: 255; or one a "
        "band: 0,0,255.",
    )
    on_bad_block: Literal["error", "mask"] = Field(
        "error", description="Blocks that can't be read: refuse the scene, or mark them as not analysed."
    )
    clouds: str | None = Field(
        None,
        description="What hides the ground, where nothing is analysed: the product's own layer (scl, qa, fmask, udm2, or auto "
        "for what it has), a raster or a file of polygons (masks/{name}.tif, with the name of the scene), or model:NAME.",
    )
    cloud_classes: tuple[str, ...] | None = Field(
        None,
        description="What of it hides the ground, by number or name: 3,8,9,10. [default: clouds and their shadows; of a raster "
        "all but 0]",
    )
    cloud_band: str | None = Field(None, description="Band of such a raster that says it, by its number or its name.")
    clouds_buffer: str | None = Field(None, description="Hide this far around clouds, too: 100m or 5px.")
    allow_vrt: bool = Field(default=False, description="Open GDAL virtual rasters, which can name any other file or address.")
    sign: str | None = Field(
        None,
        description="Sign the addresses of scenes, anew when a signature has ended: planetary-computer, the address of such a "
        "token service, or a command that is given an address and prints it signed.",
    )
    max_pixels: int = Field(10**12, gt=0, lt=2**63, description="Refuse scenes with more pixels.")

    @field_validator("rescale")
    @classmethod
    def _check_rescale(cls, text: str | None) -> str | None:
        if text is not None and text != "auto":
            parts = text.split(",")
            try:
                low, high = (float(part) for part in parts)
            except ValueError:
                raise ValueError(f"{text!r} is neither auto nor LOW,HIGH") from None
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ValueError(f"{text!r}: LOW and HIGH are to be finite numbers")
            if low >= high:
                raise ValueError(f"{text!r}: LOW is to be below HIGH")
        return text

    @field_validator("clouds", mode="before")
    @classmethod
    def _check_clouds(cls, text: object) -> object:
        # What a template makes of a variable that is not set.
        return text or None

    @field_validator("clouds_buffer")
    @classmethod
    def _check_buffer(cls, text: str | None) -> str | None:
        if text is not None:
            parse_distance(text)
        return text

    @model_validator(mode="after")
    def _check_of_clouds(self) -> Self:
        given = [name for name in ("cloud_classes", "cloud_band", "clouds_buffer") if getattr(self, name) is not None]
        if given and self.clouds is None:
            raise ValueError(f"{given[0]} says how clouds are read; say from what with clouds: auto, a file or model:NAME")
        return self

    @field_validator("nodata")
    @classmethod
    def _check_nodata(cls, text: str | None) -> str | None:
        if text is not None:
            parse_values(text)
        return text

    @model_validator(mode="after")
    def _check_validity(self) -> Self:
        if self.nodata is not None and self.ignore_nodata:
            raise ValueError("give either nodata, a value that stands for no data, or ignore_nodata, where none does")
        return self

    @property
    def cloud_model(self) -> str | None:
        """The model that maps clouds, where one does."""
        known = self.clouds is not None and self.clouds.startswith(MODEL)
        return self.clouds.removeprefix(MODEL) if known and self.clouds is not None else None

    @property
    def cloud_file(self) -> str | None:
        """The file that holds clouds, where one does; ``{name}`` stands for the name of the scene."""
        return None if self.clouds in (None, *LAYERS) or self.cloud_model is not None else self.clouds

    @property
    def nodata_values(self) -> tuple[float, ...] | None:
        """The values that stand for no data, one or one a band."""
        return None if self.nodata is None else parse_values(self.nodata)

    @field_validator("target_crs", "assume_crs")
    @classmethod
    def _check_crs(cls, text: str | None) -> str | None:
        return None if text is None else check_crs(text)


class AreaConfig(Section):
    """Settings of the area of interest: what lies outside of it is not read, and no data in all results."""

    aoi: str | None = Field(
        None,
        description="Map this area only: a vector file of polygons; W,S,E,N in longitude and latitude, or "
        "EPSG:32720:xmin,ymin,xmax,ymax; or WKT, with SRID=32720; in front where it is not in longitude and latitude.",
    )

    aoi_column: str | None = Field(
        None, description="Make a map of each feature of the file, in a folder that is named by its value in this column."
    )

    aoi_cut: Literal["pixels", "exact"] = Field(
        "pixels", description="Polygons of classes end at the pixels whose centres lie in the area, or at its exact line."
    )

    @model_validator(mode="after")
    def _check_column(self) -> Self:
        if self.aoi_column is not None and self.aoi is None:
            raise ValueError("aoi_column is one of the file that aoi names, and there is none")
        return self

    @field_validator("aoi")
    @classmethod
    def _check_aoi(cls, text: str | None) -> str | None:
        from geoseg.vectors.given_area import check_area

        return None if text is None else check_area(text)


class GridConfig(Section):
    """Sides of tiles and chunks. The tile and the halo are part of the result's identity; the chunk is not."""

    tile: int = Field(1024, ge=32, le=65_536, description="Side in pixels of what one forward pass sees, halo included.")
    halo: Annotated[int, Field(ge=0, le=65_536)] | Literal["exact"] | None = Field(
        None,
        description="Context around a tile in pixels, or exact for the network's receptive field. [default: 64; a quarter of "
        "the tile for networks with global context]",
    )
    chunk: Annotated[int, Field(ge=256, le=1_048_576)] | None = Field(
        None,
        description="Side in pixels of the unit of work and of resume; does not change the result. [default: 2048; beside a GPU "
        "and with several processes 4096]",
    )


class InferConfig(Section):
    """Settings of the network's inference."""

    task: Literal["auto", "semantic", "instances", "panoptic"] = Field(
        "auto",
        description="semantic: classes; instances: objects one by one; panoptic: both in one map. [default: instances where "
        "the model tells objects apart]",
    )
    engine: Literal["auto", "onnx", "torch"] = Field("auto", description="auto: torch on a GPU, ONNX Runtime otherwise.")
    device: str = Field("auto", description="For torch: auto, cpu, cuda, cuda:1, or cuda:all: a process on each GPU.")
    provider: str = Field(
        "cpu",
        description="For ONNX Runtime, its execution provider: cpu, cuda, tensorrt, openvino, coreml, ..., as the installed "
        "package has it.",
    )
    compile: Literal["auto", "never", "always"] = Field(
        "auto",
        description="Whether a GPU compiles the network, which takes up to a minute: auto where that pays, once for an output "
        "folder.",
    )
    tta: Literal["none", "d4"] = Field(
        "none", description="Test-time augmentation: d4 averages over the eight symmetries of the square."
    )
    probabilities: bool = Field(default=False, description="Write probabilities.tif, a band a class, in percent.")
    uncertainty: bool = Field(
        default=False,
        description="Write uncertainty.tif: how far the members of an ensemble, or the images turned by --tta, disagree.",
    )
    threads: int = Field(0, ge=0, le=4096, description="CPU threads of a process. [default: all cores]")
    batch: int = Field(0, ge=0, le=65_536, description="Tiles a batch. [default: what the device likes]")
    memory: str | None = Field(
        None, description="Memory to use, for example 2GB; sets the chunks in flight. [default: a quarter of what is free]"
    )

    tile_timeout: str = Field(
        "10m", description="Longest time for a tile of 1024 px a side, larger ones in proportion; then its chunk is not analysed."
    )

    @field_validator("tile_timeout")
    @classmethod
    def _check_tile_timeout(cls, text: str) -> str:
        if parse_seconds(text) < 1:
            raise ValueError(f"{text!r} is too short; 1s is the least")
        return text

    @field_validator("memory")
    @classmethod
    def _check_memory(cls, text: str | None) -> str | None:
        if text is not None and parse_bytes(text) < 200 * 10**6:
            raise ValueError(f"{text!r} is too little; 200MB is the least")
        return text

    @property
    def tile_seconds(self) -> float:
        """The longest time for a tile."""
        return parse_seconds(self.tile_timeout)

    @property
    def memory_bytes(self) -> int | None:
        """The memory to use in bytes."""
        return None if self.memory is None else parse_bytes(self.memory)


class VectorConfig(Section):
    """Settings of polygons and their files."""

    formats: tuple[Literal["geojson", "gpkg", "fgb", "parquet", "pmtiles"], ...] = Field(
        ("geojson", "gpkg"), description="Vector files to write: geojson, gpkg, fgb, parquet, pmtiles; none for rasters only."
    )
    classes: tuple[str, ...] | None = Field(
        None,
        description="Classes to make polygons of, by name or code. [default: all; of a model's map all that its card does not "
        "mark as background, which geoseg inspect MODEL shows]",
    )
    min_area: str | None = Field(
        None,
        description="Regions and holes under this area merge into the neighbour with the longest shared border: 0.5ha, 400m2.",
    )
    simplify: float = Field(0.0, ge=0, le=1000, description="Simplify borders by this many pixels; shared borders stay shared.")
    smooth: int = Field(0, ge=0, le=5, description="Rounds of corner cutting.")
    right_angles: bool = Field(
        default=False, description="Give the outlines of objects right angles, within a fifth of their area."
    )
    style_table: bool = Field(
        default=True,
        description="Put the QGIS style into GeoPackages, too, as a second table, layer_styles; without it they have one layer.",
    )
    simplestyle: bool = Field(default=False, description="Give GeoJSON features the colours of their classes: fill and stroke.")
    max_vertices: int = Field(
        100_000, ge=0, lt=2**63, description="Cut polygons with more vertices along a fixed grid; 0 never cuts."
    )

    @field_validator("min_area")
    @classmethod
    def _check_min_area(cls, text: str | None) -> str | None:
        if text is not None:
            parse_area(text)
        return text

    @property
    def min_area_m2(self) -> float:
        """The least area in square metres."""
        return 0.0 if self.min_area is None else parse_area(self.min_area)
