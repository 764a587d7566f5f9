"""Settings of an adoption; the command line takes its defaults from here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from geoseg.adoption.network_facts import ANY_SIZE, Activation, Told
from geoseg.dialect import setting
from geoseg.errors import ConfigError

__all__ = ["AdoptSettings", "DataType", "Preset"]

DataType = Literal["uint8", "int8", "uint16", "int16", "float32"]
Preset = Literal["ftw"]
ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptSettings:
    """What the user tells of a network; None for what its file is to tell."""

    name: str | None = None
    """Of the model; by default that of the file."""
    bands: Sequence[str] | None = None
    """Names in the order in which the network takes them."""
    classes: Sequence[str] | None = None
    """Names in the order of the scores."""
    background: str | None = None
    """The class that is left out of polygons."""
    gsd: str | float | None = None
    """Metres of a pixel, or ``any``."""
    scale: float | None = None
    """What pixel values are divided by."""
    mean: Sequence[float] | None = None
    """By band, what is then taken off."""
    std: Sequence[float] | None = None
    """By band, what that is divided by."""
    data_type: DataType | None = None
    """Of the images that it was trained on."""
    value_range: Sequence[float] | None = None
    """Smallest and largest pixel value."""
    activation: Activation | None = None
    """What makes its numbers probabilities."""
    output: str | None = None
    """Of an ONNX file with several outputs, the one that has the scores."""
    architecture: str | None = None
    """Of weights without one."""
    encoder: str | None = None
    """Of weights without one."""
    preset: Preset | None = None
    """Facts of a family of networks."""
    largest_object: int | None = None
    """Of a detector, rows or columns of the largest object, px."""
    norm_eps: float | None = None
    """Of a detector, what frozen normalization adds to variances."""
    license: str | None = None
    """SPDX identifier of the licence of the weights."""
    description: str | None = None

    def told(self) -> Told:
        """These facts, read.

        Raises:
            ConfigError: One can't be read.
        """
        span = self.value_range
        if span is not None and len(span) != 2:
            raise ConfigError(f"{setting('value_range')}: {list(span)} are not two values, LOW,HIGH")
        return Told(
            name=self.name,
            description=self.description,
            license=self.license,
            bands=None if self.bands is None else tuple(self.bands),
            classes=None if self.classes is None else tuple(self.classes),
            background=self.background,
            gsd=_size(self.gsd),
            scale=self.scale,
            mean=None if self.mean is None else tuple(self.mean),
            std=None if self.std is None else tuple(self.std),
            data_type=self.data_type,
            value_range=None if span is None else (span[0], span[1]),
            activation=self.activation,
        )


def _size(text: str | float | None) -> float | None:
    if text is None:
        return None
    if text == ANY:
        return ANY_SIZE
    with suppress(ValueError):
        if 0 < (found := float(text)) < math.inf:
            return found
    raise ConfigError(f"{setting('gsd')}: {text!r} is no side of a pixel in metres, and not {ANY}")
