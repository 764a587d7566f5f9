"""Values that a model card is made of: classes, scaling, calibration, objects, damage."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from geoseg.arrays import F32, F64
from geoseg.codes import MAX_CLASS, MAX_VALUE
from geoseg.formats.text import steers

__all__ = [
    "LEAST_STDDEV",
    "Calibration",
    "Closed",
    "DamageFacts",
    "DataSource",
    "InstanceFacts",
    "ModelClass",
    "Quantity",
    "Quantization",
    "ReceptiveField",
    "Scaling",
    "check_value_range",
]

LEAST_STDDEV = 1e-9
"""By which values may be divided."""

MAX_REACH = 100_000
"""Most pixels that a network sees to one side, or an object spans; more is no network but a mistake."""
PROSE = ("description", "attribution", "method")
"""Fields that may have several lines."""
LAYOUT = {ord("\n"): " ", ord("\t"): " ", ord("\r"): " "}


class Closed(BaseModel):
    """A frozen value without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _texts_steer_nothing(self) -> Self:
        for key, value in self:
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and steers(text.translate(LAYOUT) if key in PROSE else text):
                    raise ValueError(f"{key}: {text!r} holds control characters or marks of direction, which no name needs")
        return self


class Quantity(Closed):
    """What a model regresses: one number a pixel, such as the height of the canopy, and how maps store it."""

    name: str = Field(min_length=1, max_length=80)
    """What it is: ``canopy height``."""
    unit: str = Field(max_length=20)
    """Its unit, ``m``; ``1`` for shares."""
    scale: float = Field(gt=0, le=1e12)
    """Of maps, whose codes run from 0 to ``geoseg.codes.MAX_VALUE``: value = code * scale + offset."""
    offset: float = Field(0.0, ge=-1e12, le=1e12)
    """Of maps: the least value that they hold."""
    slope: float = Field(1.0, ge=-1e12, le=1e12)
    """Of the network: value = slope * output + intercept."""
    intercept: float = Field(0.0, ge=-1e12, le=1e12)
    """Of the network."""

    @model_validator(mode="after")
    def _tells_something(self) -> Self:
        if self.slope == 0:
            raise ValueError("slope: 0 would make every value the same")
        return self

    def values(self, output: F32) -> F64:
        """Values of outputs of the network, of any shape."""
        return self.slope * output.astype(np.float64) + self.intercept

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest value that maps hold."""
        return self.offset, self.offset + self.scale * MAX_VALUE

    @property
    def suffix(self) -> str:
        """Its unit as it stands behind a number; nothing of shares."""
        return "" if self.unit in ("", "1") else f" {self.unit}"

    @property
    def title(self) -> str:
        """Its name with its unit."""
        return f"{self.name},{self.suffix}" if self.suffix else self.name


class ModelClass(Closed):
    """A class that the model distinguishes."""

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


def check_value_range(given: tuple[float, float] | None) -> None:
    """Refuse a range of values from high to low.

    Raises:
        ValueError: It is one.
    """
    if given is not None and not given[0] < given[1]:
        raise ValueError(f"value_range: {given[0]:g} to {given[1]:g}; the first is to be the smaller")


class Scaling(Closed):
    """Normalization of one band: ``(value - mean) / stddev``."""

    mean: float = Field(ge=-1e12, le=1e12)
    """In the units of the input."""
    stddev: float = Field(ge=LEAST_STDDEV, le=1e12)
    """In the units of the input."""


class ReceptiveField(Closed):
    """Numbers of pixels to each side of an output pixel that the network sees."""

    left: int = Field(ge=0, le=MAX_REACH)
    right: int = Field(ge=0, le=MAX_REACH)
    top: int = Field(ge=0, le=MAX_REACH)
    bottom: int = Field(ge=0, le=MAX_REACH)

    @property
    def reach(self) -> int:
        """The largest of the four."""
        return max(self.left, self.right, self.top, self.bottom)


class Quantization(Closed):
    """Convolutions in 8-bit integers, and what the map is worth with them, on images that their ranges were not found on."""

    convolutions: int = Field(ge=1)
    """Number of convolutions that compute in integers."""
    crops: int = Field(ge=1)
    """Parts of images that the ranges of activations were found on."""
    agreement: float = Field(ge=0, le=1)
    """Share of the pixels with the class of the network in 32 bits."""
    accuracy: tuple[float, float] | None = None
    """Share of labelled pixels that are right, in 32 bits and in integers; None where no labels were given."""
    miou: tuple[float, float] | None = None
    """Mean intersection over union of the classes, likewise."""


class Calibration(Closed):
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


class DataSource(Closed):
    """Data that the model was trained on."""

    name: str
    license: str
    attribution: str = ""


class InstanceFacts(Closed):
    """Facts on objects: how they are found, and how large they are."""

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


class DamageFacts(Closed):
    """Facts on crops of buildings for a network that grades them; see ``geoseg.damage.crops``."""

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
