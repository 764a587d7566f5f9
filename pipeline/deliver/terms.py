"""Terms of a delivery: licence, attribution, disclaimer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from geoseg.errors import ConfigError
from pipeline.config.delivering import DeliveryConfig
from pipeline.config.units import parse_distance

__all__ = ["DISCLAIMER", "LICENCE", "Terms", "in_lines", "metres_of"]

DISCLAIMER = (
    "Made by a computer program from satellite or aerial images and not checked on the ground. Classes may be wrong; what was "
    "not analysed is not free of damage or change. No warranty; not for decisions on which lives depend without a check."
)


LICENCE = "The images belong to their providers, whose licences hold."


PRODUCTS = (("product", r"[A-Z]{3}|PRODUCT", "GRA"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Title, terms and settings of a delivery."""

    event: str
    """The event and its place."""
    code: str = ""
    """Of the activation, such as EMSR999; files begin with it."""
    aoi_id: str = ""
    """Number of the area of interest in the activation, such as AOI01: with it files are named by the manual of EMS."""
    product: str = "PRODUCT"
    """Type of product in such names: FEP, DEL, GRA."""
    version: int = 1
    """Of the delivery in such names, from 1."""
    producer: str = ""
    date: str | None = None
    """Of production, ISO 8601; by default when the result was finished."""
    disclaimer: str = DISCLAIMER
    licence: str = LICENCE
    also: tuple[str, ...] = ()
    """Formats beside GeoPackage and GeoJSON: ``fgb``, ``shp``."""
    interest: tuple[str, ...] = ("destroyed",)
    """Classes of the grid and the density map of buildings."""
    cell_m: float = 500.0
    """Side of the cells of the grid."""
    radius_m: float = 250.0
    """Of the kernel of the density map."""
    sample: Path | None = None
    """A labelled sample of the buildings, from which their numbers are estimated."""
    given: DeliveryConfig = field(default_factory=DeliveryConfig)
    """What its maker says of the event, the images and itself."""

    def __post_init__(self) -> None:
        """Check that it has a title."""
        if not self.event.strip():
            raise ConfigError("event: is empty; say what happened, and where, for example Flood in Valencia")
        if not self.aoi_id:
            return
        for name, pattern, example in (("code", r"EMSR\d{3,4}", "EMSR999"), ("aoi_id", r"AOI\d\d", "AOI01"), *PRODUCTS):
            if re.fullmatch(pattern, getattr(self, name)) is None:
                raise ConfigError(
                    f"{name}: {getattr(self, name)!r} is none of the manual of EMS, by which --aoi-id has files named; write for "
                    f"example {example}"
                )
        if self.version < 1:
            raise ConfigError(f"version: {self.version} is below 1, the first")

    def named(self, layer: str) -> str:
        """Name of the file of a layer, without its ending."""
        if self.aoi_id:
            kind = "" if self.product == "PRODUCT" else f"{self.product}_"
            return f"{self.code}_{self.aoi_id}_{kind}PRODUCT_{layer}_v{self.version}"
        return f"{self.code}_{layer}" if self.code else layer

    def layer_of(self, name: str) -> str:
        """What ``named`` was given, of the name of a file."""
        before, _, after = self.named("\n").partition("\n")
        return name.split(".", 1)[0].removeprefix(before).removesuffix(after)


def in_lines(terms: Terms) -> Terms:
    """The terms without line breaks and control characters, which would tear tables and pages."""

    def clean(text: str) -> str:
        return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())

    lists = {
        key: tuple(clean(line) for line in value)
        for key in ("sensors", "providers", "contact")
        if (value := getattr(terms.given, key)) is not None
    }
    return replace(
        terms,
        given=terms.given.model_copy(update=lists),
        event=clean(terms.event),
        producer=clean(terms.producer),
        disclaimer=clean(terms.disclaimer),
        licence=clean(terms.licence),
    )


def metres_of(name: str, text: str) -> float:
    """Metres of a length on the ground, such as ``500m`` or ``1km``.

    Raises:
        ConfigError: It is none, or not above 0; the message has the ``name`` of the setting.
    """
    try:
        number, unit = parse_distance(text)
    except ValueError as error:
        raise ConfigError(f"--{name}: {error}") from error
    if unit != "m" or number <= 0:
        raise ConfigError(f"--{name}: {text} is no length above 0 on the ground; write for example 500m or 1km")
    return number
