"""Settings of a comparison of dates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.section import Section
from pipeline.config.units import parse_area

__all__ = ["DatesConfig"]


class DatesConfig(Section):
    """Settings for comparing several dates of one place."""

    acquired: tuple[str, ...] | None = Field(
        None, description="Dates of the scenes, ISO 8601, where they don't say them: 2019-07-01,2023-07-14, or years: 1985,2020."
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
        from geoseg.scenes.acquired import iso_date, year_of

        if dates is None:
            return None
        found = [text.lower() if text.lower() == "none" else year_of(text) or iso_date(text) for text in dates]
        for text, date in zip(dates, found, strict=True):
            if date is None:
                raise ValueError(f"{text!r} is no date; write 2019-07-01, or a year: 2019, or none where it is not known")
        return tuple(date for date in found if date is not None)

    @property
    def least_area_m2(self) -> float:
        """The least area of a patch in square metres."""
        return 0.0 if self.least_area is None else parse_area(self.least_area)
