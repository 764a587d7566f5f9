"""What people decide on a polygon, as it comes from outside and as it stands in the log."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import shapely
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geoseg.codes import MAX_CLASS
from geoseg.errors import ConfigError

__all__ = ["Decision", "Entry", "Key", "check_reviewer", "reviewer_or_user", "shape_of"]

Key = tuple[int, int, int]
"""Version, id and part of a polygon."""
MOST_POINTS = 20_000
MOST_TEXT, MOST_REASON, MOST_NAME = 2000, 200, 64


class Decision(BaseModel):
    """A decision as a reviewer sends it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    action: Literal["accept", "reject", "class", "redraw", "comment", "second"]
    """``second`` asks somebody else for an opinion; ``redraw`` without a polygon adds one that the map has missed."""
    polygon: int | None = Field(default=None, ge=0)
    """Its id."""
    part: int = Field(default=0, ge=0)
    """Of a polygon that was cut, which part."""
    version: int = Field(default=0, ge=0)
    """The version whose polygon it is; 0 is the run."""
    code: int | None = Field(default=None, alias="class", ge=0, le=MAX_CLASS)
    """The class that it should have; of a rejected one without, it becomes *not analysed*."""
    rest: int | None = Field(default=None, ge=0, le=MAX_CLASS)
    """Of a redrawn polygon, the class of what lies outside of its new outline; without, that becomes *not analysed*."""
    reason: str | None = Field(default=None, max_length=MOST_REASON)
    comment: str | None = Field(default=None, max_length=MOST_TEXT)
    geometry: Mapping[str, object] | None = None
    """GeoJSON (RFC 7946): a polygon or several in longitude and latitude."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse what says too little or too much."""
        action = self.action
        if self.polygon is None and action != "redraw":
            raise ValueError(f"{action}: names no polygon")
        if action == "reject" and not (self.reason or "").strip():
            raise ValueError("reject: gives no reason")
        if action in ("class", "redraw") and self.code is None:
            raise ValueError(f"{action}: names no class")
        if action == "comment" and not (self.comment or "").strip():
            raise ValueError("comment: is empty")
        if (action == "redraw") != (self.geometry is not None):
            raise ValueError(f"{action}: {'has no geometry' if action == 'redraw' else 'takes no geometry'}")
        if self.code is not None and action not in ("class", "redraw", "reject"):
            raise ValueError(f"{action}: takes no class")
        if self.rest is not None and action != "redraw":
            raise ValueError(f"{action}: takes no rest")
        if self.geometry is not None:
            shape_of(self.geometry)
        return self

    @classmethod
    def parse(cls, document: object) -> Self:
        """Check a document.

        Raises:
            ConfigError: It is no decision; the message names the first fault.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"decision{f', {place}' if place else ''}: {first['msg'].removeprefix('Value error, ')}") from error

    @property
    def key(self) -> Key | None:
        """The polygon; None for one that is added."""
        return None if self.polygon is None else (self.version, self.polygon, self.part)

    @property
    def decides(self) -> bool:
        """Whether it settles what the polygon is."""
        return self.action not in ("comment", "second")

    @property
    def outcome(self) -> tuple[object, ...]:
        """What two reviewers agree on, or not."""
        drawn = None if self.geometry is None else shapely.to_wkb(shape_of(self.geometry))
        return self.action, self.code, self.rest, drawn

    def public(self) -> dict[str, object]:
        """As JSON, without what it does not say."""
        return {k: v for k, v in self.model_dump(mode="json", by_alias=True, exclude_none=True).items() if (k, v) != ("part", 0)}


class Entry(Decision):
    """A line of the log."""

    by: str = Field(min_length=1, max_length=MOST_NAME)
    at: str
    """Time, ISO 8601 in UTC."""
    via: str = "page"
    """``page``, or the file that it was imported from."""
    run: str = ""
    """sha256 of the class raster of the run whose polygons are spoken of."""
    previous: str = ""
    """sha256 of the line before; empty in the first one."""


def check_reviewer(name: str) -> str:
    """The name of a reviewer.

    Raises:
        ConfigError: It is empty, too long, or holds what is no text.
    """
    name = name.strip()
    if not name or len(name) > MOST_NAME or not name.isprintable():
        raise ConfigError(f"--as: {name[:MOST_NAME]!r} is no name of 1 to {MOST_NAME} characters")
    return name


def reviewer_or_user(name: str | None) -> str:
    """The name of a reviewer; where none is given, that of the user of this machine.

    Raises:
        ConfigError: It can't be one, or this machine does not say who its user is.
    """
    if name is None:
        try:
            name = getpass.getuser()
        except (OSError, KeyError) as error:
            raise ConfigError("--as: this machine does not say who its user is; name who reviews") from error
    return check_reviewer(name)


def shape_of(geometry: Mapping[str, object]) -> shapely.Geometry:
    """The polygon of GeoJSON.

    Raises:
        ValueError: It is no polygon with an area, crosses itself, has too many points, or lies on no place on Earth.
    """
    if geometry.get("type") not in ("Polygon", "MultiPolygon"):
        raise ValueError("geometry: is neither a Polygon nor a MultiPolygon of GeoJSON")
    try:
        shape = shapely.geometry.shape(geometry)
        points = shapely.get_coordinates(shape)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, shapely.errors.GEOSException) as error:
        raise ValueError("geometry: its coordinates are no rings of GeoJSON") from error
    if len(points) > MOST_POINTS:
        raise ValueError(f"geometry: has {len(points):,} points; {MOST_POINTS:,} are the most")
    if not len(points) or not np.isfinite(points).all() or np.abs(points[:, 0]).max() > 360 or np.abs(points[:, 1]).max() > 90:
        raise ValueError("geometry: its coordinates are no longitudes and latitudes")
    shape = shapely.force_2d(shape)
    if not shape.is_valid:
        raise ValueError(f"geometry: {shapely.is_valid_reason(shape)}; draw it without crossing lines")
    if shape.area <= 0:
        raise ValueError("geometry: has no area")
    return shape
