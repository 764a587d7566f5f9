"""Polygons of objects."""

from __future__ import annotations

import numpy as np

from geoseg.arrays import F64, I64, U8
from geoseg.georeference import Georeference
from geoseg.instances.masks import Masks
from geoseg.polygons import _regions, _rings
from geoseg.polygons.labelling import Measures
from geoseg.polygons.rings import Polygons, assemble
from geoseg.windows import Window

__all__ = ["trace_masks"]

OUTSIDE = -257


def trace_masks(masks: Masks, code: U8, confidence: U8, width: int, georeference: Georeference) -> tuple[Polygons, Measures]:
    """The outlines of masks along the edges of their pixels, and what is measured on them, in the order of the masks.

    Memory follows the window that holds them all.

    Args:
        masks: 4-connected, without a pixel in common.
        code: (N,) class code of each.
        confidence: (N,) mean confidence of each in percent, and its 10th percentile: (N, 2).
        width: Columns of the scene, for ids.
        georeference: Where the scene's pixels lie.
    """
    if not len(masks):
        return Polygons.empty(), _measures(np.empty(0, np.int64), np.empty(0), code, confidence, np.empty(0, np.int64))
    boxes = masks.boxes
    window = Window.between(int(boxes[:, 0].min()), int(boxes[:, 1].max()), int(boxes[:, 2].min()), int(boxes[:, 3].max()))
    labels = np.zeros((window.height + 2, window.width + 2), np.int32)
    masks.paint(labels[1:-1, 1:-1], np.arange(1, len(masks) + 1, dtype=np.int32), window.row_off, window.col_off)
    labels[0], labels[-1], labels[:, 0], labels[:, -1] = (OUTSIDE,) * 4
    values = np.concatenate([[0], code]).astype(np.uint8)
    wanted = np.ones(len(values), np.uint8)
    wanted[0] = 0
    rows, cols, _, rings, owner, area = _rings.trace(labels, values, wanted, np.zeros(len(values), np.uint8))
    rc = np.stack([rows + float(window.row_off), cols + float(window.col_off)], axis=1)
    polygons, owners = assemble(rc, rings, owner.astype(np.int64), area.astype(np.float64))
    if len(polygons) != len(masks):
        raise AssertionError(f"{len(masks)} masks gave {len(polygons)} polygons; each is to be one region")
    metric = georeference.metric(window)
    pixel_area = metric.area if metric is not None else np.ones((2, 2))
    spacing = metric.spacing if metric is not None else float(2 * max(window.shape))
    run_row, run_start, run_stop = (
        np.ascontiguousarray(masks.runs[:, k] - offset, np.int32)
        for k, offset in enumerate((window.row_off, window.col_off, window.col_off))
    )
    number = np.full(len(values), -1, np.int32)
    pixels, square, _, _ = _regions.measure(
        run_row,
        run_start,
        run_stop,
        (masks.owners + 1).astype(np.int32),
        len(masks),
        pixel_area,
        spacing,
        None,
        number,
        np.zeros((0, 101), np.uint32),
    )
    order = owners - 1
    return polygons, _measures(pixels[1:], square[1:], code, confidence, masks.first_pixels(width)).take(order)


def _measures(
    pixels: I64,
    area: F64,
    code: U8,
    confidence: U8,
    anchor: I64,
) -> Measures:
    mean, p10 = (confidence[:, 0], confidence[:, 1]) if len(confidence) else (np.empty(0, np.uint8),) * 2
    nothing = np.zeros(len(code), np.int64)
    return Measures(code, anchor, pixels, area, mean.astype(np.int64) * pixels, p10.astype(np.uint8), nothing)
