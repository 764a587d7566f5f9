"""Settings of a mosaic."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.section import Section

__all__ = ["Combine", "MosaicConfig", "Order"]

Order = Literal["date", "name", "distance-to-edge"]
Combine = Literal["latest", "best", "majority", "mean"]


class MosaicConfig(Section):
    """Settings for putting scenes together to one map."""

    order: Order = Field(
        "date",
        description="Which scene goes first where several lie over each other: the newest, the first by name, or the one whose "
        "edge is farthest. What ties goes by name.",
    )
    combine: Combine = Field(
        "latest",
        description="Which class a pixel gets: that of the first scene in the order that was analysed there, of the scene with "
        "the highest confidence, that of most scenes, or that of the mean of their probabilities; what ties goes by the order.",
    )
    within: str | None = Field(
        None,
        description="Cut the mosaic to W,S,E,N in longitude and latitude, beside an area of interest; the maps of scenes of "
        "several UTM zones are, each to its own.",
    )

    @field_validator("within")
    @classmethod
    def _check_within(cls, text: str | None) -> str | None:
        from geoseg.vectors.given_area import check_area, file_of_area

        if text is not None and file_of_area(check_area(text)) is not None:
            raise ValueError("is no box; write W,S,E,N in longitude and latitude")
        return text
