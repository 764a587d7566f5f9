"""What is told of a stranger's network, by its file and by whoever adopts it; what neither tells is asked for in one sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from geoseg.codes import MAX_CLASS
from geoseg.dialect import number_of, setting
from geoseg.errors import ConfigError
from geoseg.models.card_values import Scaling

__all__ = ["ANY_SIZE", "Activation", "Told", "card_name"]

Activation = Literal["softmax", "sigmoid", "none"]
"""What makes probabilities of the numbers that a network gives; ``none`` where they are probabilities already."""
ANY_SIZE = 0.0
"""The size of pixels of a network that takes every size."""
BACKGROUND = "background"
"""The one name that says by itself that a class is left out of polygons."""
GREY = "#c8c8c8"
COLORS = (
    "#1b7837",
    "#2166ac",
    "#d6604d",
    "#e6ab02",
    "#762a83",
    "#01665e",
    "#b2182b",
    "#8c510a",
    "#4393c3",
    "#a6d96a",
    "#c51b7d",
    "#fdae61",
)
NO_ASSERTION = "NOASSERTION"
"""SPDX for a licence that nothing is said of."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
"""A name that a card takes."""
EIGHT_BITS = 255.0
RANGES: dict[str, tuple[float, float]] = {"uint8": (0, EIGHT_BITS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Facts on a network; None for what is not told."""

    name: str | None = None
    description: str | None = None
    license: str | None = None
    """SPDX identifier of the licence of the weights."""
    bands: tuple[str, ...] | None = None
    """Names of the bands, in the order in which the network takes them."""
    classes: tuple[str, ...] | None = None
    """Names of the classes, in the order of the scores; of a network with one score that without it, then that with it."""
    background: str | None = None
    """Name of the class that is left out of polygons."""
    gsd: float | None = None
    """Metres of a pixel; ``ANY_SIZE`` for any."""
    scale: float | None = None
    """What pixel values are divided by first."""
    mean: tuple[float, ...] | None = None
    """By band, what is then taken off; 0 where there is a scale and no mean."""
    std: tuple[float, ...] | None = None
    """By band, what that is divided by; 1 where there is a scale and nothing else."""
    data_type: str | None = None
    """Data type of the images that it was trained on."""
    value_range: tuple[float, float] | None = None
    """Smallest and largest pixel value."""
    activation: Activation | None = None
    threshold: float | None = None
    """Least probability of class 1, of a network with one score."""

    def over(self, other: Told) -> Told:
        """These facts, and the other's where these are silent."""
        names = [field.name for field in fields(self)]
        return Told(**{name: _first(getattr(self, name), getattr(other, name)) for name in names})

    def missing(self) -> list[str]:
        """What has to be known and is not, as the settings that tell it."""
        wanted = {
            "bands": (self.bands, "red,green,blue"),
            "classes": (self.classes, "background,building"),
            "gsd": (self.gsd, "0.5 (metres of a pixel; any where it takes all sizes)"),
            "scale": (self.scale, "255 (what pixel values are divided by)"),
        }
        asked = [setting(key, example) for key, (value, example) in wanted.items() if value is None]
        if self.activation is None:
            asked.append(setting("activation", "softmax (one class a pixel), sigmoid (each by itself) or none (probabilities)"))
        if self.data_type is None and self.scale != EIGHT_BITS:
            asked.append(setting("data_type", "uint16 (of the images that it was trained on)"))
        return asked

    def check(self, where: str, bands: int, scores: int) -> None:
        """Ask for what is missing, and refuse what does not fit the network.

        Args:
            where: The file, for messages.
            bands: Bands that the network takes.
            scores: Scores that it gives.

        Raises:
            ConfigError: Something is missing or does not fit.
        """
        asked = self.missing()
        if asked:
            raise ConfigError(
                f"{where}: takes {bands} bands, gives {number_of(scores, 'score')} a pixel, and does not tell "
                f"all that is to be known of it; give {', '.join(asked)}"
            )
        assert self.bands is not None
        assert self.classes is not None
        wanted = max(2, scores)
        counts = {"bands": (len(self.bands), bands), "classes": (len(self.classes), wanted)}
        counts |= {key: (len(v), bands) for key, v in (("mean", self.mean), ("std", self.std)) if v is not None and len(v) != 1}
        for key, (given, needed) in counts.items():
            if given != needed:
                why = "" if key != "classes" or scores > 1 else " (one score tells one class from what it is not)"
                raise ConfigError(f"{where}: {setting(key)}: {given} are told, and the network has {needed}{why}; give {needed}")
        if wanted > MAX_CLASS + 1:
            raise ConfigError(f"{where}: gives {wanted} scores a pixel; maps hold {MAX_CLASS + 1} classes at most")
        for key, names in (("classes", self.classes), ("bands", self.bands)):
            if len(set(names)) != len(names):
                raise ConfigError(f"{where}: {setting(key)}: a name is there twice in {', '.join(names)}")
        if self.name is not None and not NAME.fullmatch(self.name):
            raise ConfigError(
                f"{where}: {setting('name')}: {self.name!r}: take small letters a to z, digits, dots, hyphens and underscores, "
                "a letter or a digit first"
            )
        self._check_range(where)
        if self.background is not None and self.background not in self.classes:
            raise ConfigError(
                f"{where}: {setting('background')}: {self.background!r} is none of the classes {', '.join(self.classes)}"
            )

    def _check_range(self, where: str) -> None:
        if self.value_range is None:
            return
        low, high = self.value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(
                f"{where}: {setting('value_range')}: {low:g},{high:g} is no range; give two finite values, the smaller first"
            )

    def scaling(self) -> tuple[Scaling, ...]:
        """Normalization by band, in units of pixel values.

        Raises:
            ConfigError: A value can't be one.
        """
        assert self.bands is not None
        assert self.scale is not None
        count = len(self.bands)
        mean, std = (_by_band(values, other, count) for values, other in ((self.mean, 0.0), (self.std, 1.0)))
        if self.scale <= 0 or min(std) <= 0:
            raise ConfigError(f"{setting('scale')}, {setting('std')}: {self.scale:g}, {min(std):g}; both are to be above 0")
        return tuple(Scaling(mean=m * self.scale, stddev=s * self.scale) for m, s in zip(mean, std, strict=True))

    def card_facts(self) -> dict[str, Any]:
        """Fields of the card, after ``check``."""
        assert self.classes is not None
        assert self.bands is not None
        data_type = self.data_type or "uint8"
        facts: dict[str, Any] = {
            "name": self.name,
            "description": self.description or f"Tells {', '.join(self.classes)}; trained elsewhere.",
            "license": self.license or NO_ASSERTION,
            "bands": self.bands,
            "scaling": self.scaling(),
            "classes": self._card_classes(),
            "data_type": data_type,
            "value_range": self.value_range or RANGES.get(data_type),
            "gsd_m": self.gsd or None,
            "activation": self.activation,
        }
        if self.threshold is not None and self.activation == "sigmoid" and len(self.classes) == 2:
            facts["thresholds"] = (self.threshold,)
        return facts

    def _card_classes(self) -> list[dict[str, Any]]:
        assert self.classes is not None
        hidden = self.background or next((c for c in self.classes if c.casefold() == BACKGROUND), None)
        if hidden is None and self.activation == "sigmoid" and len(self.classes) == 2:
            # What one score does not say is everything else.
            hidden = self.classes[0]
        colors = iter(COLORS * (len(self.classes) // len(COLORS) + 1))
        return [
            {"value": k, "name": name, "color": GREY if name == hidden else next(colors), "background": name == hidden}
            for k, name in enumerate(self.classes)
        ]


def card_name(text: str) -> str:
    """A text as the name of a model: lower case, with hyphens for what a name can't hold."""
    name = re.sub(r"[^a-z0-9._-]+", "-", text.casefold()).strip("-._")
    return name or "model"


def _first(one: Any, other: Any) -> Any:
    return other if one is None else one


def _by_band(values: Sequence[float] | None, other: float, count: int) -> Sequence[float]:
    if values is None:
        return (other,) * count
    return tuple(values) * count if len(values) == 1 else values
