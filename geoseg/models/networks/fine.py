"""A U-Net that also sees single pixels.

The decoder of a U-Net on a pretrained encoder ends with features of half the resolution, enlarged: what is one pixel
wide is lost. A branch of two convolutions at full resolution brings it back, as the first level of the U-Net of 2015 does
(Ronneberger, Fischer and Brox 2015, arXiv:1505.04597).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["FineUnet"]


class FineUnet(nn.Module):
    """A U-Net of segmentation-models-pytorch whose head reads a branch at full resolution, too.

    Maps (N, in_channels, H, W) to scores (N, classes, H, W), H and W multiples of the encoder's stride.

    Args:
        base: The U-Net; its own head is not used.
        in_channels: Number of bands.
        decoder_channels: Channels of the decoder's last level.
        classes: Number of scores.
        width: Channels of the branch.
    """

    def __init__(self, base: Any, in_channels: int, decoder_channels: int, classes: int, width: int = 24) -> None:
        super().__init__()
        self.encoder: nn.Module = base.encoder
        self.decoder: nn.Module = base.decoder
        self.fine = nn.Sequential(*_block(in_channels, width), *_block(width, width))
        self.join = nn.Sequential(*_block(width + decoder_channels, width))
        self.segmentation_head = nn.Conv2d(width, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Scores of an image."""
        coarse: torch.Tensor = self.decoder(self.encoder(image))
        joined = self.join(torch.cat([coarse, self.fine(image)], dim=1))
        scores: torch.Tensor = self.segmentation_head(joined)
        return scores


def _block(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A convolution with normalization; the activation is not in place, so that the graph can be traced in any mode."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
