"""Settings of a mosaic."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config.section import Section

__all__ = ["Combine", "MosaicConfig", "Order"]

Order = Literal["date", "name", "distance-to-edge"]
Combine = Literal["latest", "best", "majority"]


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
        "the highest confidence, or that of most scenes; what ties goes by the order.",
    )
