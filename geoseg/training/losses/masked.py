"""Losses, means and spreads over what is known alone; NaN and UNLABELLED take no part."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from torch import Tensor

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError

__all__ = ["balanced_cross_entropy", "cell_means", "smooth_l1", "spread_of"]


def balanced_cross_entropy(scores: Tensor, target: Tensor) -> Tensor | None:
    """Binary cross-entropy in which boundaries count as much as all the rest (Xie and Tu 2015, equation 2).

    They are balanced over the batch, not over each chip, so that chips without a boundary count, too; and the sum is
    divided by that of the weights, so that its size does not follow the number of pixels.

    Args:
        scores: (N, S, H, W): several outputs for the same target.
        target: (N, H, W): 1, 0 or UNLABELLED.

    Returns:
        The mean over the outputs; None where nothing is known.
    """
    wanted = (target == 1)[:, None]
    rest = ((target != UNLABELLED) & (target != 1))[:, None]
    if not (wanted | rest).any():
        return None
    scores = scores.float()
    losses = F.binary_cross_entropy_with_logits(scores, wanted.to(scores).expand_as(scores), reduction="none")
    means = [(losses * side).sum() / (side.sum().clamp(min=1) * scores.shape[1]) for side in (wanted, rest)]
    return (means[0] + means[1]) / 2


def smooth_l1(output: Tensor, target: Tensor, beta: float) -> Tensor | None:
    """Smooth L1 of values of any one shape, linear from a difference of ``beta`` on; None where nothing is known."""
    known = ~target.isnan()
    return F.smooth_l1_loss(output.float()[known], target[known], beta=beta) if known.any() else None


def cell_means(values: Tensor, side: int, least_known: float) -> Tensor:
    """Means over cells of ``side`` x ``side`` pixels.

    Args:
        values: (N, R, H, W) float, NaN where not known.
        side: Of a cell, in pixels.
        least_known: Share of a cell that has to be known.

    Returns:
        (N, R, H / side, W / side), NaN where less is known.
    """
    known = ~values.isnan()
    share = F.avg_pool2d(known.float(), side)
    mean = F.avg_pool2d(torch.where(known, values, 0.0), side) / share
    return torch.where((share > 0) & (share >= least_known), mean, torch.nan)


def spread_of(rasters: Iterable[Tensor | None]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each raster over what is known of some batches.

    Args:
        rasters: (N, R, H, W) each, NaN where not known; or None.

    Returns:
        R means and R standard deviations; 1 for a raster that is the same everywhere.

    Raises:
        ConfigError: There are no rasters, or nothing of one of them is known.
    """
    found = [batch.double() for batch in rasters if batch is not None]
    if not found:
        raise ConfigError(
            "tasks.regression: the data have no rasters to regress; name them in data.rasters, or leave the task out"
        )
    counts = sum((~batch.isnan()).sum((0, 2, 3)) for batch in found)
    assert isinstance(counts, Tensor)
    if not counts.all():
        raise ConfigError(
            f"tasks.regression: raster {int((counts == 0).nonzero()[0]) + 1} of {len(counts)} has no value in any of the chips "
            "that were looked at; does it cover the images?"
        )
    mean = torch.stack([batch.nansum((0, 2, 3)) for batch in found]).sum(0) / counts
    squares = torch.stack([(batch - mean.view(1, -1, 1, 1)).square().nansum((0, 2, 3)) for batch in found]).sum(0)
    deviation = (squares / counts).sqrt()
    return tuple(mean.tolist()), tuple(torch.where(deviation > 0, deviation, 1.0).tolist())
