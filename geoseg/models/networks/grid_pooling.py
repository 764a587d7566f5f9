"""Pooling into a fixed grid, for any size of input."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

__all__ = ["GridPooling", "PyramidBlock", "make_exportable"]


class GridPooling(nn.Module):
    """Averages of ``size`` x ``size`` cells that cover the input, as ``nn.AdaptiveAvgPool2d`` takes them.

    Written as two products with matrices that follow the input's size, which exports to ONNX; the original does not
    unless the size is fixed.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, size, size)."""
        rows, cols = self._averages(image, -2), self._averages(image, -1)
        return torch.matmul(torch.matmul(rows, image), cols.transpose(0, 1))

    def _averages(self, image: Tensor, axis: int) -> Tensor:
        """(size, length): the weight of every pixel along an axis in each cell."""
        length = image.shape[axis]
        position = torch.arange(length, device=image.device)[None]
        cell = torch.arange(self.size, device=image.device)[:, None]
        start = torch.div(cell * length, self.size, rounding_mode="floor")
        stop = torch.div((cell + 1) * length + self.size - 1, self.size, rounding_mode="floor")
        inside = ((position >= start) & (position < stop)).to(image.dtype)
        return inside / inside.sum(dim=1, keepdim=True)


class PyramidBlock(nn.Module):
    """A level of a pooling pyramid: averages of cells, a convolution of them, enlarged to the input's size again.

    Zhao et al. 2017, "Pyramid scene parsing network", arXiv:1612.01105.
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H, W)."""
        return F.interpolate(self.pool(image), size=image.shape[2:], mode="bilinear", align_corners=True)


def make_exportable(network: nn.Module) -> None:
    """Replace adaptive pooling into more than one cell, in place; parameters keep their names.

    The blocks of PSPNet in segmentation-models-pytorch go another way when they are exported, and are replaced with them.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "PSPBlock":
                assert isinstance(child.pool, nn.Module)
                setattr(module, name, PyramidBlock(child.pool))
            elif isinstance(child, nn.AdaptiveAvgPool2d):
                size = child.output_size[0] if isinstance(child.output_size, tuple) else child.output_size
                if size is not None and size > 1:
                    setattr(module, name, GridPooling(size))
