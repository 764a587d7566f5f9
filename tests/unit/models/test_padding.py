"""Fixed padding against timm, which measures each image."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
same = pytest.importorskip("timm.layers.conv2d_same")

from geoseg.models.padding import FixedSame, is_same_convolution  # noqa: E402


@pytest.mark.parametrize(
    ("kernel", "stride", "groups"), [(3, 2, 1), (5, 2, 6), (2, 2, 1), ((3, 5), 2, 3), (7, 4, 1), (1, 2, 1), (4, 1, 1)]
)
def test_same_padding_is_fixed_for_multiples_of_the_stride(kernel: int, stride: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = same.Conv2dSame(6, 12, kernel, stride, groups=groups).double()
    assert is_same_convolution(conv)
    fixed = FixedSame(conv)
    for rows, cols in ((2, 3), (4, 1), (5, 6)):
        image = torch.randn(2, 6, rows * stride, cols * stride, dtype=torch.float64)
        assert torch.equal(fixed(image), conv(image))


def test_other_convolutions_are_left_alone() -> None:
    assert not is_same_convolution(torch.nn.Conv2d(3, 4, 3, padding=1))
    assert not is_same_convolution(same.Conv2dSame(3, 4, 3, (1, 2)))
    assert not is_same_convolution(same.Conv2dSame(3, 4, 3, dilation=2))
