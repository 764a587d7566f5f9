"""Settings of a composite."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from geoseg.dates.composites import BestRule
from pipeline.config.section import Section

__all__ = ["LEFT_OUT", "SECTIONS", "CompositeConfig", "Method", "Period"]

Method = Literal["median", "mean", "best"]
Period = Literal["all", "year", "season", "month"]
SECTIONS = ("composite", "scene", "area", "stac", "infer")
"""Sections of settings that a composite has."""
LEFT_OUT = (
    "rescale",
    "resample",
    "pixel_coords",
    "aoi_column",
    "aoi_cut",
    "task",
    "compile",
    "tta",
    "probabilities",
    "uncertainty",
    "batch",
    "tile_timeout",
)
"""Settings of these sections that are of maps alone."""


class CompositeConfig(Section):
    """Settings for making one image of many."""

    method: Method = Field(
        "median",
        description="What a pixel gets of its clear observations: the median or mean of each band, or all bands of the best one.",
    )
    best: BestRule = Field(
        "nearest",
        description="Of the method best, which that is: the nearest to the median, the medoid, or the latest. What ties goes by "
        "date, the latest first.",
    )
    period: Period = Field(
        "all",
        description="Make one image of all scenes, or one a calendar year, season (December to February, and so on) or month.",
    )
    least: int = Field(1, ge=1, le=65_535, description="Pixels with fewer clear observations hold no data.")
