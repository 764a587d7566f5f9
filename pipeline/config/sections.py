"""What a run can be told: one closed class per stage; names, units and defaults stand here only.

The command line, the TOML file and scheduled flows are all made from these classes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from geoseg.addresses import host_of, shown, unsigned
from geoseg.crs import check_crs
from geoseg.errors import ConfigError
from pipeline.config.document import parse_document, read_toml
from pipeline.config.units import MAX_DURATION_S, parse_area, parse_bytes, parse_seconds, parse_values

__all__ = ["Config", "GridConfig", "InferConfig", "RunConfig", "SceneConfig", "StacConfig", "VectorConfig", "WatchConfig"]

FORMATS = ("geojson", "gpkg", "fgb", "parquet")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class SceneConfig(_Section):
    """How scenes are opened and which of their values the model gets."""

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
    allow_vrt: bool = Field(default=False, description="Open GDAL virtual rasters, which can name any other file or address.")
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
    def nodata_values(self) -> tuple[float, ...] | None:
        """The values that stand for no data, one or one a band."""
        return None if self.nodata is None else parse_values(self.nodata)

    @field_validator("target_crs", "assume_crs")
    @classmethod
    def _check_crs(cls, text: str | None) -> str | None:
        return None if text is None else check_crs(text)


class GridConfig(_Section):
    """How a scene is cut. The tile and the halo are part of the result's identity; the chunk is not."""

    tile: int = Field(1024, ge=32, le=65_536, description="Side in pixels of what one forward pass sees, halo included.")
    halo: Annotated[int, Field(ge=0, le=65_536)] | Literal["exact"] | None = Field(
        None,
        description="Context around a tile in pixels, or exact for the network's receptive field. [default: 64; a quarter of "
        "the tile for networks with global context]",
    )
    chunk: int = Field(
        4096, ge=256, le=1_048_576, description="Side in pixels of the unit of work and of resume; does not change the result."
    )


class InferConfig(_Section):
    """How the network runs."""

    task: Literal["auto", "semantic", "instances", "panoptic"] = Field(
        "auto",
        description="semantic: classes; instances: objects one by one; panoptic: both in one map. [default: instances where "
        "the model tells objects apart]",
    )
    engine: Literal["auto", "onnx", "torch"] = Field("auto", description="auto: torch on a GPU, ONNX Runtime otherwise.")
    device: str = Field("auto", description="For torch: auto, cpu, cuda or cuda:1.")
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


class VectorConfig(_Section):
    """What polygons are made, and in which files."""

    formats: tuple[Literal["geojson", "gpkg", "fgb", "parquet"], ...] = Field(
        ("geojson", "gpkg"), description="Vector files to write: geojson, gpkg, fgb, parquet; none for rasters only."
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
    right_angles: bool = Field(False, description="Give the outlines of objects right angles, within a fifth of their area.")
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


class RunConfig(_Section):
    """How the work is spread, and what happens to what is there already."""

    workers: int = Field(
        0, ge=0, le=4096, description="Dask worker processes on this machine. [default: none, all in this process]"
    )
    max_workers: int = Field(
        0, ge=0, le=4096, description="Let the processes grow from --workers to this many while chunks wait."
    )
    scheduler: str | None = Field(
        None, description="An existing Dask cluster: tcp://host:port, tls://host:port, or a scheduler file."
    )
    tls_ca: str | None = Field(None, description="For a cluster with TLS: file of the authority that its certificates come from.")
    tls_cert: str | None = Field(None, description="For a cluster with TLS: file of this side's certificate.")
    tls_key: str | None = Field(None, description="For a cluster with TLS: file of this side's key.")
    scratch: str | None = Field(
        None,
        description="Keep chunk results at this folder or address (s3://bucket/prefix) that all workers reach. [default: the "
        "output folder]",
    )
    strict: bool = Field(
        default=False,
        description="Stop at the first scene that fails, and take never-written blocks, and scenes far from what the model was "
        "made for, as errors.",
    )
    overwrite: bool = Field(default=False, description="Replace outputs that were made from other inputs or settings.")
    keep: bool = Field(default=False, description="Keep the chunk results after publishing.")
    confidence: bool = Field(default=True, description="Write confidence.tif.")
    date: str | None = Field(None, description="Acquisition date of scenes that don't say it, ISO 8601.")

    @field_validator("scheduler", mode="before")
    @classmethod
    def _check_scheduler(cls, text: object) -> object:
        # What a template makes of a variable that is not set.
        return text or None

    @model_validator(mode="after")
    def _check_cluster(self) -> Self:
        if self.scheduler is not None and (self.workers or self.max_workers):
            raise ValueError("give either a scheduler or a number of workers")
        if self.max_workers and self.max_workers < max(1, self.workers):
            raise ValueError(f"max_workers is {self.max_workers}, which is below workers, {max(1, self.workers)}")
        if any((self.tls_ca, self.tls_cert, self.tls_key)) and not all(
            (self.tls_ca, self.tls_cert, self.tls_key, self.scheduler)
        ):
            raise ValueError("TLS takes tls_ca, tls_cert, tls_key and a scheduler")
        return self

    @field_validator("date")
    @classmethod
    def _check_date(cls, text: str | None) -> str | None:
        from datetime import datetime

        if text is not None:
            datetime.fromisoformat(text)
        return text


class DatesConfig(_Section):
    """How several dates of one place are compared."""

    acquired: tuple[str, ...] | None = Field(
        None, description="Dates of the scenes, ISO 8601, where they don't say them: 2019-07-01,2023-07-14."
    )
    masks: tuple[str, ...] | None = Field(
        None, description="By date, a raster or a file of polygons of clouds and shadows, or none: none,clouds_2023.tif."
    )
    mask_values: tuple[int, ...] | None = Field(
        None,
        description="Values of such rasters that hide the ground: 3,8,9,10. What lies outside of them is hidden. [default: all "
        "but 0]",
    )
    mask_band: str | None = Field(
        None,
        description="Band of such rasters that says it, by its number or its name; of Planet's UDM2 the band 'clear' where "
        "none is given.",
    )
    coregister: Literal["auto", "measure", "off"] = Field(
        "auto", description="Measure how far dates lie apart, and move them onto the first one where most windows agree."
    )
    max_shift: float = Field(5.0, gt=0, le=10_000, description="Refuse dates that lie further off, in pixels.")
    radiometry: Literal["none", "moments", "pif"] = Field(
        "none", description="Bring later dates to the light of the first: by mean and deviation, or by invariant pixels (pif)."
    )
    of: str = Field("forest", description="The class whose loss and gain are mapped.")
    change_rate: float = Field(
        0.1, gt=0, le=0.5, description="Probability that a pixel changes between two dates; 0.5 compares the dates and no more."
    )
    least_area: str | None = Field(None, description="Smaller patches of the class are not it, by definition: 0.5ha.")
    least_width: float = Field(0.0, ge=0, description="Nor are parts of it that are narrower, in metres.")

    @field_validator("least_area")
    @classmethod
    def _check_least_area(cls, text: str | None) -> str | None:
        if text is not None:
            parse_area(text)
        return text

    @field_validator("acquired")
    @classmethod
    def _check_acquired(cls, dates: tuple[str, ...] | None) -> tuple[str, ...] | None:
        from geoseg.scenes.acquired import iso_date

        if dates is None:
            return None
        found = [text.lower() if text.lower() == "none" else iso_date(text) for text in dates]
        for text, date in zip(dates, found, strict=True):
            if date is None:
                raise ValueError(f"{text!r} is no date; write year, month and day: 2019-07-01, or none where it is not known")
        return tuple(date for date in found if date is not None)

    @property
    def least_area_m2(self) -> float:
        """The least area of a patch in square metres."""
        return 0.0 if self.least_area is None else parse_area(self.least_area)


class StacConfig(_Section):
    """Which items of a STAC API are scenes; for sources that start with stac+."""

    collections: tuple[str, ...] = Field((), description="Collections to search.")
    bbox: tuple[float, float, float, float] | None = Field(
        None, description="West, south, east, north in degrees that an item touches."
    )
    datetime: str | None = Field(
        None, description="A date or an interval: 2024-06-01/2024-09-30, or 2024-06-01/.. for all since."
    )
    max_cloud_cover: float | None = Field(None, ge=0, le=100, description="Skip items with more clouds, in percent.")
    assets: tuple[str, ...] = Field(
        ("visual",), description="Assets that make a scene: one with all bands, or one a band in the model's order."
    )
    max_items: int = Field(10_000, gt=0, le=10_000_000, description="Items to take at most.")


class WatchConfig(_Section):
    """How a source is watched for new scenes."""

    at_once: int = Field(1, ge=1, le=64, description="Scenes that are mapped at the same time.")
    settle: str = Field("30s", description="Leave files alone until they have not changed for this long: 30s, 5m, 1h.")
    done_marker: str | None = Field(
        None, description="Take a scene only when a file with this ending lies beside it: .done waits for scene.tif.done."
    )
    scan_timeout: str = Field("5m", description="Longest time that looking at a source may take; what has not answered is away.")
    retry_delay: str = Field(
        "10s", description="First delay before a scene is tried again that failed by what may pass; it doubles each time."
    )
    retry_most: str = Field("1h", description="Longest such delay.")
    repair: bool = Field(default=True, description="Map scenes again whose published files are gone or were changed.")
    max_failures: int = Field(
        3, ge=1, le=1_000_000, description="Attempts before a scene is put in quarantine; failures that may pass do not count."
    )
    webhook: str | None = Field(
        None,
        description="Address that is sent a JSON message when a scene is mapped or has failed, or env:NAME of the variable "
        "that holds it.",
    )

    @field_validator("settle", "scan_timeout", "retry_delay", "retry_most")
    @classmethod
    def _check_duration(cls, text: str) -> str:
        if parse_seconds(text) > MAX_DURATION_S:
            raise ValueError(f"{text!r} is longer than a year")
        return text

    @field_validator("webhook", mode="before")
    @classmethod
    def _check_webhook(cls, text: object) -> object:
        if isinstance(text, str) and text and not text.startswith(("http://", "https://", "env:", "secret:")):
            raise ValueError("neither an http or https address, nor env:NAME, nor secret:NAME")
        # What a template makes of a variable that is not set.
        return text or None

    @property
    def settle_s(self) -> float:
        """Seconds that a file is to rest."""
        return parse_seconds(self.settle)

    @property
    def scan_timeout_s(self) -> float:
        """Longest time of a look at the sources."""
        return parse_seconds(self.scan_timeout)

    @property
    def retry_delay_s(self) -> float:
        """Seconds before the first new attempt after a failure that may pass."""
        return parse_seconds(self.retry_delay)

    @property
    def retry_most_s(self) -> float:
        """Seconds that such a delay is at most."""
        return parse_seconds(self.retry_most)


class Config(_Section):
    """All that a run can be told beside its inputs, its model and its output folder."""

    scene: SceneConfig = SceneConfig()
    grid: GridConfig = GridConfig()
    infer: InferConfig = InferConfig()
    vector: VectorConfig = VectorConfig()
    run: RunConfig = RunConfig()
    watch: WatchConfig = WatchConfig()
    stac: StacConfig = StacConfig()
    dates: DatesConfig = DatesConfig()

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Config:
        """Check a nested document.

        Raises:
            ConfigError: A key is unknown or a value can't work; the message names the key.
        """
        return parse_document(cls, document)

    @classmethod
    def read(cls, path: Path, changes: dict[str, dict[str, Any]] | None = None) -> Config:
        """Read a TOML file with a table per section, then apply changes by section.

        Raises:
            ConfigError: The file can't be read or holds something that can't work.
        """
        document = read_toml(path)
        for section, values in (changes or {}).items():
            table = document.setdefault(section, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{path}: {section}: is a value; write [{section}], and its settings below")
            table.update(values)
        return cls.parse(document)

    def public(self) -> dict[str, Any]:
        """All settings as JSON without secrets: addresses as they may be shown, of the webhook no more than its host."""
        facts: dict[str, Any] = _each_text(self.model_dump(mode="json"), shown)
        if self.watch.webhook is not None:
            facts["watch"]["webhook"] = host_of(self.watch.webhook)
        return facts

    def result_hash(self) -> str:
        """sha256 of all settings that can change the outputs; an address that is signed anew is the same."""
        facts = _each_text(self.model_dump(mode="json"), unsigned)
        for section, keys in {"infer": ("threads", "batch", "memory", "device", "tile_timeout"), "grid": ("chunk",)}.items():
            for key in keys:
                del facts[section][key]
        facts["run"] = {key: facts["run"][key] for key in ("date", "confidence", "strict")}
        facts["scene"].pop("max_pixels")
        # What finds scenes does not change what becomes of them.
        del facts["watch"], facts["stac"]
        return _hash(facts)

    def chunk_hash(self) -> str:
        """sha256 of the settings that can change chunk results."""
        facts = _each_text(self.model_dump(mode="json", include={"scene", "grid", "infer", "dates"}), unsigned)
        for key in ("least_area", "least_width"):
            del facts["dates"][key]
        facts["scene"].pop("max_pixels")
        facts["grid"].pop("chunk")
        facts["infer"] = {key: facts["infer"][key] for key in ("task", "tta", "probabilities", "uncertainty")}
        if facts["infer"]["task"] != "semantic":
            # Chunks of a model that tells objects apart hold both: objects, and what lies between them.
            facts["infer"]["task"] = "auto"
        return _hash(facts)


def _each_text(facts: Any, change: Callable[[str], str]) -> Any:
    """JSON with each of its texts changed."""
    if isinstance(facts, dict):
        return {key: _each_text(value, change) for key, value in facts.items()}
    if isinstance(facts, list):
        return [_each_text(value, change) for value in facts]
    return change(facts) if isinstance(facts, str) else facts


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
