"""The card of a model: what it takes, what it gives, and how it is to be run.

``card.json`` carries the fields of the STAC Machine Learning Model extension (MLM 1.4, https://stac-extensions.github.io/mlm/)
for every program to read, and under ``geoseg`` what running it exactly needs beyond them.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geoseg.codes import MAX_CLASS
from geoseg.documents import read_json
from geoseg.errors import ModelError
from geoseg.formats.text import steers
from geoseg.models.domain_facts import DomainFacts

__all__ = ["Calibration", "Card", "DamageFacts", "DataSource", "InstanceFacts", "ModelClass", "ReceptiveField", "Scaling"]


MAX_REACH = 100_000
"""Most pixels that a network sees to one side, or an object spans; more is no network but a mistake."""
PROSE = ("description", "attribution", "method")
"""Fields that may have several lines."""
LAYOUT = {ord("\n"): " ", ord("\t"): " ", ord("\r"): " "}


class _Closed(BaseModel):
    """A frozen value without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _texts_steer_nothing(self) -> Self:
        for key, value in self:
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and steers(text.translate(LAYOUT) if key in PROSE else text):
                    raise ValueError(f"{key}: {text!r} holds control characters or marks of direction, which no name needs")
        return self


class ModelClass(_Closed):
    """One class that the model tells apart."""

    value: int = Field(ge=0, le=MAX_CLASS)
    """Its code in class rasters."""
    name: str = Field(min_length=1)
    """Its name."""
    color: str = Field(pattern="^#[0-9a-fA-F]{6}$")
    """Its colour in maps."""
    description: str = ""
    """What it stands for."""
    background: bool = False
    """Whether it is left out of polygons unless asked for."""
    before: str | None = None
    """Of a network that compares dates: what was there at the first one, where the class says so."""
    after: str | None = None
    """And at the last one."""

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Its colour as red, green and blue."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


class Scaling(_Closed):
    """Normalization of one band: ``(value - mean) / stddev``."""

    mean: float = Field(ge=-1e12, le=1e12)
    """In the units of the input."""
    stddev: float = Field(ge=1e-9, le=1e12)
    """In the units of the input."""


class ReceptiveField(_Closed):
    """How many pixels to each side of an output pixel the network sees."""

    left: int = Field(ge=0, le=MAX_REACH)
    right: int = Field(ge=0, le=MAX_REACH)
    top: int = Field(ge=0, le=MAX_REACH)
    bottom: int = Field(ge=0, le=MAX_REACH)

    @property
    def reach(self) -> int:
        """The largest of the four."""
        return max(self.left, self.right, self.top, self.bottom)


class Calibration(_Closed):
    """Calibration by score: of the score, ``gain * score + offset``, then of its probability by a rising curve.

    After curves the probabilities of a softmax are divided by their sum.
    """

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    knots: tuple[tuple[tuple[float, float], ...], ...] | None = None
    """By score, corners ``(probability, calibrated)`` of a curve of straight lines that runs from 0 to 1; None for no curves."""
    cubic: tuple[tuple[float, float, float, float], ...] | None = None
    """By score, c0 to c3 of the curve ``c0 + c1 p + c2 p**2 + c3 p**3``, kept within 0 and 1; None for no curves."""
    method: str = ""
    """How it was fitted."""

    @model_validator(mode="after")
    def _rising(self) -> Calibration:
        if self.knots is not None and self.cubic is not None:
            raise ValueError("calibration: has both knots and cubic; give one")
        for key, given in (("offset", self.offset), ("knots", self.knots), ("cubic", self.cubic)):
            if given is not None and len(given) != len(self.gain):
                raise ValueError(f"calibration.{key}: {len(given)} entries for {len(self.gain)} gains")
        for curve in self.knots or ():
            pairs = list(pairwise(curve))
            if len(curve) < 2 or curve[0][0] != 0 or curve[-1][0] != 1 or any(b[0] <= a[0] for a, b in pairs):
                raise ValueError("calibration.knots: the probabilities of a curve are to rise from 0 to 1")
            if any(b[1] < a[1] for a, b in pairs) or curve[0][1] < 0 or curve[-1][1] > 1:
                raise ValueError(
                    "calibration.knots: the calibrated probabilities of a curve are not to fall, nor to leave 0 to 1"
                )
        for c0, c1, c2, c3 in self.cubic or ():
            # The lowest slope is at an end, or where the slope's own slope is 0.
            turn = min(1.0, max(0.0, -c2 / (3 * c3))) if c3 else 0.0
            if not all(c1 + 2 * c2 * p + 3 * c3 * p * p >= -1e-6 for p in (0.0, turn, 1.0)):
                raise ValueError(f"calibration.cubic: the curve {(c0, c1, c2, c3)} falls between 0 and 1")
        return self


class DataSource(_Closed):
    """Data that the model was trained on."""

    name: str
    license: str
    attribution: str = ""


class InstanceFacts(_Closed):
    """How objects are found, and how large they are."""

    kind: Literal["watershed", "regions"]
    """What follows the scores as further channels. ``watershed``: boundaries and distances, to flood objects from seeds;
    ``regions``: number, mask probability and score of the objects that a detector has found."""
    largest_px: int = Field(ge=1, le=MAX_REACH)
    """Rows or columns of the largest object that it was trained on: the overlap with which tiles see such objects whole."""
    foreground: float = Field(0.5, gt=0, lt=1)
    """Least probability of all classes of objects together of an object's pixels."""
    seed: float = Field(0.3, gt=0, lt=1)
    """Least distance to the border, as a share of the largest that is told, of the pixels that an object grows from."""
    boundary: float = Field(0.5, gt=0, lt=1)
    """Largest probability of a boundary of these pixels."""
    least_px: int = Field(16, ge=1)
    """Smaller objects are left out."""
    score: float = Field(0.5, ge=0, lt=1)
    """Objects that are less sure are left out."""


class DamageFacts(_Closed):
    """How crops of buildings are made for a network that grades them; see ``geoseg.damage.crops``."""

    side: int = Field(96, ge=32, le=4096)
    """Rows and columns of a crop."""
    gsd_m: float = Field(0.5, ge=1e-4, le=1e6)
    """Metres of a pixel; more for buildings that would not fit."""
    share: float = Field(0.6, gt=0, le=1)
    """Largest share of the side that a building takes."""
    tolerance_m: float = Field(1.0, ge=0)
    """Pixels so near to a footprint belong to it: roofs lean with the view, and footprints lie off."""
    used: tuple[int, ...] = (0, 1)
    """Which dates the network looks at: the first is that before."""


CARD_BYTES = 16 << 20
FURTHER_CHANNELS = {"watershed": 2, "regions": 3}


class Card(_Closed):
    """All that is known of a model beside its weights."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Short name, in lower case."""
    version: str = "1.0.0"
    description: str
    license: str
    """SPDX identifier of the weights' licence."""
    data: tuple[DataSource, ...] = ()
    """What it was trained on."""
    architecture: str
    """Name of the architecture and encoder."""
    framework_version: str = ""
    total_parameters: int = Field(0, ge=0)
    bands: tuple[str, ...] = Field(min_length=1)
    """Names of the input bands, in order."""
    scaling: tuple[Scaling, ...]
    """Normalization by band."""
    classes: tuple[ModelClass, ...] = Field(min_length=1)
    """What it tells apart, by code."""
    data_type: Literal["uint8", "int8", "uint16", "int16", "float32"] = "uint8"
    """Data type of the images that it was trained on."""
    value_range: tuple[float, float] | None = None
    """Smallest and largest input value."""
    physical: bool = False
    """Whether it takes physical values: scale and offset of the file are applied."""
    gsd_m: float | None = Field(None, ge=1e-4, le=1e6)
    """Side in metres of the pixels that it was trained on."""
    stride: int = Field(ge=1, le=4096)
    """Total downsampling: inputs are multiples of it."""
    receptive_field: ReceptiveField | None = None
    """None for networks with global context."""
    global_context: bool = False
    """Whether every output pixel depends on the whole input, so that tiles are blended rather than cropped."""
    activation: Literal["softmax", "sigmoid"] = "softmax"
    """How scores become probabilities; sigmoid with one score tells class 1 from class 0."""
    thresholds: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = None
    """By score, the least probability for its class; None takes the most probable class."""
    calibration: Calibration | None = None
    instances: InstanceFacts | None = None
    """How objects are told apart; None for models that only know classes."""
    damage: DamageFacts | None = None
    """How buildings are shown to a network that grades them one by one; None for models that map pixels."""
    domain: DomainFacts | None = None
    """What the images were like that it was trained on; None where that was not measured."""
    bytes_per_pixel: float = Field(700.0, ge=1, le=1e7)
    """Memory of one forward pass per input pixel, for planning."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 of each file of the folder that it was saved with."""

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if len(self.scaling) != len(self.bands):
            raise ValueError(f"scaling: {len(self.scaling)} entries for {len(self.bands)} bands")
        values = [c.value for c in self.classes]
        if values != list(range(len(values))):
            raise ValueError(f"classes: the codes are {values}; they are to run from 0 without a gap")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range: {self.value_range[0]:g} to {self.value_range[1]:g}; the first is to be the smaller")
        if self.activation == "softmax" and len(self.classes) < 2:
            raise ValueError("classes: softmax needs at least two")
        if not self.global_context and self.receptive_field is None:
            raise ValueError("receptive_field: missing, and the network is not marked as one with global context")
        if self.domain is not None and len(self.domain.mean) != len(self.bands):
            raise ValueError(f"domain: is of {len(self.domain.mean)} bands, and the model takes {len(self.bands)}")
        for key, given in (("thresholds", self.thresholds), ("calibration", self.calibration.gain if self.calibration else None)):
            if given is not None and len(given) != self.scores:
                raise ValueError(f"{key}: {len(given)} entries for {self.scores} scores")
        return self

    @property
    def scores(self) -> int:
        """Number of scores of classes that the network gives."""
        return 1 if self.activation == "sigmoid" and len(self.classes) == 2 else len(self.classes)

    @property
    def channels(self) -> int:
        """Number of channels that the network gives: scores, then what tells objects apart."""
        return self.scores + (FURTHER_CHANNELS[self.instances.kind] if self.instances is not None else 0)

    @property
    def object_classes(self) -> tuple[int, ...]:
        """Codes of the classes whose objects are told apart: all but the background, none for models that don't."""
        return tuple(c.value for c in self.classes if not c.background) if self.instances is not None else ()

    @property
    def exact_halo(self) -> int | None:
        """The halo with which a tile equals the whole image; None for networks with global context."""
        if self.receptive_field is None or self.global_context:
            return None
        return -(-self.receptive_field.reach // self.stride) * self.stride

    def to_json(self) -> dict[str, Any]:
        """The card as a JSON object with MLM fields."""
        own = self.model_dump(mode="json", exclude_defaults=False)
        shape_in, shape_out = [-1, len(self.bands), -1, -1], [-1, self.channels, -1, -1]
        tasks = ["semantic-segmentation", *(["instance-segmentation"] if self.instances is not None else [])]
        return {
            "mlm:name": self.name,
            "mlm:architecture": self.architecture,
            "mlm:tasks": tasks,
            "mlm:framework": "PyTorch",
            "mlm:framework_version": self.framework_version,
            "mlm:total_parameters": self.total_parameters,
            "mlm:pretrained": False,
            "mlm:input": [
                {
                    "name": "image",
                    "bands": list(self.bands),
                    "input": {"shape": shape_in, "dim_order": ["batch", "bands", "height", "width"], "data_type": "float32"},
                    "value_scaling": [{"type": "z-score", "mean": s.mean, "stddev": s.stddev} for s in self.scaling],
                    "resize_type": None,
                    "pre_processing_function": None,
                }
            ],
            "mlm:output": [
                {
                    "name": "scores",
                    "tasks": tasks,
                    "result": {"shape": shape_out, "dim_order": ["batch", "class", "height", "width"], "data_type": "float32"},
                    "classification:classes": [
                        {"value": c.value, "name": c.name, "description": c.description, "color_hint": c.color[1:].upper()}
                        for c in self.classes
                    ],
                    "post_processing_function": None,
                }
            ],
            "geoseg": own,
        }

    @classmethod
    def read(cls, path: Path) -> Card:
        """Read ``card.json``.

        Raises:
            ModelError: It is missing, damaged, or inconsistent; the message names the key.
        """
        try:
            own = read_json(path, ModelError, limit=CARD_BYTES)["geoseg"]
        except FileNotFoundError as error:
            raise ModelError(
                f"{path}: no card; a model folder holds card.json, config.json and model.onnx or model.safetensors"
            ) from error
        except ModelError:
            raise
        except OSError as error:
            raise ModelError(f"{path}: can't be read: {error.strerror or error}") from error
        except (KeyError, TypeError, IndexError) as error:
            raise ModelError(f"{path}: not a model card: it has no object geoseg") from error
        try:
            return cls.model_validate(own)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}." for part in first["loc"]).removesuffix(".")
            raise ModelError(f"{path}: {where}{': ' if where else ''}{first['msg'].removeprefix('Value error, ')}") from error

    def write(self, path: Path) -> None:
        """Write ``card.json``."""
        path.write_text(json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
