"""Networks of several dates with one encoder for all: features of each date and how they differ go to the decoder.

As FC-Siam-conc and FC-Siam-diff (Daudt et al. 2018, arXiv:1810.08462), for any encoder and decoder with skip connections:
at each level the features of all dates and their absolute differences pass a convolution of one pixel.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["FUSIONS", "Siamese"]

Fusion = Literal["both", "difference", "concatenation"]
FUSIONS: tuple[Fusion, ...] = ("both", "difference", "concatenation")


class Siamese(nn.Module):
    """Maps (N, dates * C, H, W) to scores (N, K, H, W).

    Args:
        base: A network of one date with encoder, decoder and head.
        dates: How many dates.
        fusion: What the decoder gets of each level: features, differences, or both.
        stride: Total downsampling of the base.
    """

    def __init__(self, base: Any, dates: int, fusion: Fusion, stride: int) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion: {fusion!r} is none of {', '.join(FUSIONS)}")
        self.encoder, self.decoder, self.segmentation_head = base.encoder, base.decoder, base.segmentation_head
        self.dates, self.fusion, self.stride = dates, fusion, stride
        parts = {"both": 2 * dates - 1, "difference": dates - 1, "concatenation": dates}[fusion]
        # Encoders of some depths have levels without channels.
        self.mix = nn.ModuleList(nn.Conv2d(parts * c, c, 1) if c else nn.Identity() for c in base.encoder.out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Scores."""
        every = [self.encoder(part) for part in torch.chunk(image, self.dates, dim=1)]
        fused = []
        for mix, *levels in zip(self.mix, *every, strict=True):
            kept = list(levels) if self.fusion != "difference" else []
            if self.fusion != "concatenation":
                kept += [torch.abs(b - a) for a, b in pairwise(levels)]
            fused.append(mix(torch.cat(kept, dim=1)) if levels[0].shape[1] else levels[0])
        scores: Tensor = self.segmentation_head(self.decoder(fused))
        return scores
