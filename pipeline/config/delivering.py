"""Settings of a delivery: what its maker knows of the event and the images, and what lies on its map."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.document import parse_document, read_toml
from pipeline.config.section import Section

__all__ = ["DeliveryConfig"]

UNKNOWN = "unknown"


class DeliveryConfig(Section):
    """Settings for what a delivery says beside its figures."""

    status: Literal["draft", "final", "corrected"] | None = Field(None, description="Status of the delivery. [default: not said]")
    event_time: str | None = Field(None, description="Time of the event, ISO 8601: 2011-05-22T22:34Z.")
    image_times: tuple[str, ...] | None = Field(
        None,
        description="Times of acquisition by image, ISO 8601, or unknown, where the result has none or the day alone: "
        "2010-06-01,2011-06-09T17:05Z.",
    )
    sensors: tuple[str, ...] | None = Field(None, description="Sensors by image, or unknown: WorldView-2,GeoEye-1.")
    providers: tuple[str, ...] | None = Field(
        None, description="Providers of the images, or unknown: Maxar,European Space Agency."
    )
    contact: tuple[str, ...] | None = Field(None, description="Lines of the contact block: Mapping unit,maps@example.org.")
    roads: str | None = Field(None, description="A vector file of lines to draw under the features.")
    places: str | None = Field(None, description="A vector file of points to name on the map, the most important first.")
    place_column: str = Field("name", description="Column of --places with the names.")
    borders: str | None = Field(None, description="A vector file to draw on the locator, such as borders of countries.")

    @field_validator("event_time", "image_times")
    @classmethod
    def _check_times(cls, given: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for text in (given,) if isinstance(given, str) else given or ():
            if text.lower() != UNKNOWN:
                try:
                    datetime.fromisoformat(text)
                except ValueError as error:
                    raise ValueError(f"{text!r} is no time; write 2011-05-22 or 2011-05-22T22:34Z") from error
        return given

    @classmethod
    def read(cls, file: Path | None, given: Mapping[str, object]) -> DeliveryConfig:
        """The settings of the table ``[delivery]`` of a TOML file, with those that are given over them.

        Raises:
            ConfigError: The file can't be read, a key is unknown or a value can't work.
        """
        document = {} if file is None else read_toml(file)
        table = document.setdefault("delivery", {})
        if isinstance(table, dict):
            table.update({key: value for key, value in given.items() if value is not None})
        return parse_document(_Document, document).delivery

    def of_image(self, given: tuple[str, ...] | None, number: int) -> str | None:
        """What is given of an image, from 0; None where that is nothing, or unknown."""
        found = None if given is None or number >= len(given) else given[number].strip()
        return None if not found or found.lower() == UNKNOWN else found

    @property
    def by_image(self) -> dict[str, tuple[str, ...]]:
        """The settings with a value an image, as far as they are given."""
        every = {"image_times": self.image_times, "sensors": self.sensors, "providers": self.providers}
        return {name: given for name, given in every.items() if given is not None}


class _Document(Section):
    delivery: DeliveryConfig = DeliveryConfig()
