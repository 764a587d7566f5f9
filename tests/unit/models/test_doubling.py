"""Convolutions of doubled images, phase by phase, against torch, which doubles them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812 - the name that torch uses

from geoseg.models.doubling import phase_kernel  # noqa: E402
from geoseg.models.padding import padded_convolution  # noqa: E402


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 4)])
def test_phases_of_a_doubled_image_are_convolutions_of_the_image(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    kernel = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64)
    expected = F.conv2d(F.interpolate(image, scale_factor=2, mode="nearest"), kernel, padding=1)
    for rows, cols in ((0, 0), (0, 1), (1, 0), (1, 1)):
        phase = padded_convolution(image, phase_kernel(kernel, rows, cols), None, (1 - rows, 1 - cols, rows, cols))
        torch.testing.assert_close(phase, expected[:, :, rows::2, cols::2], rtol=0, atol=1e-13)
