"""Pasting the small masks of detectors at the resolution of the raster, on the device that computed them.

A mask gives probabilities over its box. Each pixel of the raster whose centre lies in the box takes the probability at that
place, bilinearly or from the nearest cell, and belongs to the object where it is at least a half. Bilinear outlines are smooth;
nearest ones keep the steps of the small mask, which for a box of 140 pixels and a mask of 28 are five pixels long. Only
probabilities are interpolated, never codes: a mean of two class codes is a third class.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from torch import Tensor

__all__ = ["Interpolation", "pasted"]

Interpolation = Literal["bilinear", "nearest"]
INSIDE = 0.5


def pasted(
    boxes: Tensor, masks: Tensor | None, scores: Tensor, shape: tuple[int, int], *, interpolation: Interpolation = "bilinear"
) -> tuple[Tensor, Tensor]:
    """Paint objects into one raster, those that are surer over others.

    Args:
        boxes: (M, 4) left, top, right, bottom in pixels.
        masks: (M, m, m) probabilities over the boxes; None for objects that fill their boxes.
        scores: (M,) how sure each object is.
        shape: Rows and columns of the raster.
        interpolation: How probabilities are taken from the masks.

    Returns:
        (h, w) int32: objects from 1 in the order given, 0 for none; and (h, w) float32: the probability of the mask of the
        object that a pixel belongs to.
    """
    labels = torch.zeros(shape, dtype=torch.int32, device=boxes.device)
    probability = torch.zeros(shape, dtype=torch.float32, device=boxes.device)
    # The least sure first; of equals the later one, so that the order in which they come decides.
    order = torch.argsort(scores, descending=True, stable=True).flip(0)
    for index in order.tolist():
        left, top, right, bottom = (float(v) for v in boxes[index])
        # The pixels whose centres lie in the box.
        first_col, last_col = max(0, _ceil(left - 0.5)), min(shape[1], _ceil(right - 0.5))
        first_row, last_row = max(0, _ceil(top - 0.5)), min(shape[0], _ceil(bottom - 0.5))
        if first_col >= last_col or first_row >= last_row:
            continue
        here = (slice(first_row, last_row), slice(first_col, last_col))
        size = last_row - first_row, last_col - first_col
        if masks is None:
            share = torch.ones(size, device=boxes.device)
        else:
            rows = _places(first_row, last_row, top, bottom, boxes.device)
            cols = _places(first_col, last_col, left, right, boxes.device)
            grid = torch.stack(torch.meshgrid(rows, cols, indexing="ij")[::-1], dim=-1)[None]
            share = F.grid_sample(
                masks[index].float()[None, None], grid, mode=interpolation, padding_mode="border", align_corners=False
            )[0, 0]
        inside = share >= INSIDE
        labels[here][inside] = index + 1
        probability[here][inside] = share[inside]
    return labels, probability


def _ceil(value: float) -> int:
    return -int(-value // 1)


def _places(first: int, last: int, low: float, high: float, device: torch.device) -> Tensor:
    """Centres of pixels as places in a box, from -1 to 1."""
    centres = torch.arange(first, last, dtype=torch.float32, device=device) + 0.5
    return 2 * (centres - low) / max(high - low, 1e-6) - 1
