"""The patch classifier that won the ISBI 2012 challenge: what is the pixel in the middle of this window?

Ciresan, Giusti, Gambardella and Schmidhuber 2012, "Deep neural networks segment neuronal membranes in electron microscopy
images", NIPS 25. Run densely it is one pass over the image instead of one over every window, with the same scores: its
poolings keep all phases, and what follows them is dilated (Giusti et al. 2013, "Fast image scanning with deep max-pooling
convolutional neural networks", arXiv:1302.1700; Sermanet et al. 2014, "OverFeat", arXiv:1312.6229).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

from geoseg.errors import ModelError

__all__ = ["PATCHES", "DensePatchClassifier", "PatchClassifier"]

PATCHES = {33: (4, 4, 3), 65: (4, 4, 5), 95: (4, 5, 4, 4)}
"""Kernels of the convolutions by the side of the window in pixels; 95 is the deepest network of the paper."""


class PatchClassifier(nn.Module):
    """Convolutions each with a 2 x 2 max-pooling, then two fully connected layers.

    Maps windows (N, in_channels, p, p) to scores (N, classes) of their middle pixels. Larger chips (N, in_channels, H, W)
    are mapped to the scores (N, classes, H - p + 1, W - p + 1) of all windows in them, in one pass (Masci et al. 2013,
    arXiv:1302.1690, trained so). Activations are rectified linear, weights drawn with a standard deviation of
    ``sqrt(2 / N)``.

    Args:
        in_channels: Number of bands.
        classes: Number of scores.
        patch: Side of the window in pixels: 33, 65 or 95.
        width: Maps of each convolution; the paper's is 48.
        hidden: Neurons of the first fully connected layer; the paper's is 200.
        dropout: Share of these neurons dropped in training; the paper's is 0.

    Raises:
        ModelError: A parameter can't work.
    """

    stride = 1

    def __init__(
        self, in_channels: int, classes: int, *, patch: int = 65, width: int = 48, hidden: int = 200, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if patch not in PATCHES:
            raise ModelError(f"ciresan: patch: {patch} is not one of {', '.join(map(str, PATCHES))}")
        if width < 1 or hidden < 1 or not 0 <= dropout < 1:
            raise ModelError(f"ciresan: width {width}, hidden {hidden}, dropout {dropout}; use at least 1, 1, 0 to below 1")
        self.patch = patch
        self.margin = patch // 2
        kernels = PATCHES[patch]
        channels = [in_channels, *[width] * len(kernels)]
        self.encoder = nn.ModuleList(nn.Conv2d(channels[i], width, kernel) for i, kernel in enumerate(kernels))
        side = patch
        for kernel in kernels:
            side = (side - kernel + 1) // 2
        self._side = side
        self.hidden = nn.Linear(width * side * side, hidden)
        self.dropout = nn.Dropout(dropout)
        self.segmentation_head = nn.Linear(hidden, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one

    @property
    def step(self) -> int:
        """Pixels between two scores of ``coarse``: the product of the poolings."""
        return 1 << len(self.encoder)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of windows, or of all windows of larger chips.

        Raises:
            ModelError: The chips are smaller than the window.
        """
        height, width = image.shape[-2:]
        if height < self.patch or width < self.patch:
            raise ModelError(f"ciresan: chips of {height} x {width} px are smaller than the window; use at least {self.patch}")
        if height == width == self.patch:
            return self.coarse(image)[:, :, 0, 0]
        return self.dense(image)

    def coarse(self, image: Tensor) -> Tensor:
        """Scores of the windows that start at multiples of ``step`` rows and columns, (N, K, h, w).

        Cheap: each pixel is computed once, and poolings make the image small. Enough to screen for what is rare.
        """
        for conv in self.encoder:
            image = F.max_pool2d(F.relu(conv(image)), 2)
        return self._connected(image, 1)

    def dense(self, image: Tensor) -> Tensor:
        """Scores of all windows in the image, (N, K, H - p + 1, W - p + 1)."""
        spacing = 1
        for conv in self.encoder:
            # All have weights.
            image = F.relu(F.conv2d(image, conv.weight, conv.bias, dilation=spacing))  # type: ignore[arg-type]
            # Pooling at every place: of a pixel and those one spacing to its right and below.
            image = torch.maximum(image[..., :-spacing, :], image[..., spacing:, :])
            image = torch.maximum(image[..., :-spacing], image[..., spacing:])
            spacing *= 2
        return self._connected(image, spacing)

    def _connected(self, features: Tensor, spacing: int) -> Tensor:
        kernel = self.hidden.weight.view(self.hidden.out_features, -1, self._side, self._side)
        hidden = self.dropout(F.relu(F.conv2d(features, kernel, self.hidden.bias, dilation=spacing)))
        return F.conv2d(hidden, self.segmentation_head.weight[:, :, None, None], self.segmentation_head.bias)

    def inference_form(self) -> nn.Module:
        """The network with scores as large as its input."""
        return DensePatchClassifier(self)


class DensePatchClassifier(nn.Module):
    """The score of every pixel in one pass, (N, C, H, W) to (N, K, H, W); shares the parameters.

    Windows that reach past the image see its edge repeated.
    """

    stride = 1

    def __init__(self, network: PatchClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Scores of every pixel."""
        margin = self.network.margin
        return self.network.dense(F.pad(image, (margin, margin, margin, margin), mode="replicate"))
