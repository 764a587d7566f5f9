"""Parameters of detectors: sides of anchors, numbers of proposals, thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from geoseg.errors import ModelError

__all__ = ["LEVELS", "DetectorParameters", "anchor_sizes"]

LEVELS = 5
"""Levels of the feature pyramid that proposals come from: strides 4, 8, 16, 32, and the coarsest halved once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorParameters:
    """The knobs of the papers, by what they do; numbers are those of a chip in training, and of 256 x 256 pixels afterwards."""

    anchors: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    """Sides of the anchors in pixels, from fine to coarse levels; see ``anchor_sizes``."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Heights of anchors relative to their widths."""
    proposals: int = 1000
    """Proposals of the region proposal network that are kept after suppression, in training and afterwards."""
    candidates: int = 2000
    """Proposals a level before suppression."""
    proposal_nms: float = 0.7
    """Intersection over union above which the weaker of two proposals is dropped."""
    regions: int = 256
    """Regions a chip that the heads are trained on; Mask R-CNN took 512."""
    detections: int = 200
    """Most objects."""
    score: float = 0.05
    """Objects that are less sure are left out."""
    nms: float = 0.5
    """Intersection over union above which the weaker of two boxes of one class is dropped."""
    mask: int = 28
    """Rows and columns of a mask before it is pasted; twice the side of what RoIAlign takes."""
    width: int = 256
    """Channels of the feature pyramid and of the heads' convolutions."""
    hidden: int = 1024
    """Channels of the box head's linear layers."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> DetectorParameters:
        """From the parameters of a network config.

        Raises:
            ModelError: One is not known.
        """
        known = [field.name for field in fields(cls)]
        unknown = [key for key in given if key not in known]
        if unknown:
            raise ModelError(f"network.parameters.{unknown[0]}: not known; there are {', '.join(known)}")
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        return cls(**values)


def anchor_sizes(sides: Sequence[float], levels: int) -> tuple[float, ...]:
    """Sides of anchors for the levels of a pyramid, from the sides of the objects to be found.

    They are quantiles, evenly spaced in rank from the 5th to the 95th percentile, so that every level has its share.

    Args:
        sides: Square roots of the areas of objects' boxes, in pixels.
        levels: Number of levels.
    """
    ordered = torch.as_tensor(sorted(float(side) for side in sides), dtype=torch.float64)
    ranks = torch.linspace(0.05, 0.95, levels, dtype=torch.float64)
    return tuple(round(max(4.0, float(value)), 1) for value in torch.quantile(ordered, ranks))
