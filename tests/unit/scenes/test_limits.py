"""Files that declare more than memory holds are refused before a pixel is decoded."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from support import WriteRaster

from geoseg.errors import NotARasterError, SceneTooLargeError, TruncatedError
from geoseg.scenes.opening import open_scene
from geoseg.scenes.preflight import check_file
from geoseg.scenes.scene import OpenOptions


def declared(path: Path, side: int, samples: int, bits: int) -> Path:
    """A TIFF of some hundred bytes that says it is one tile, which was never written."""
    fields = [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, samples),
        (284, 3, 1, 1),
        (322, 4, 1, side),
        (323, 4, 1, side),
        (324, 4, 1, 0),
        (325, 4, 1, 0),
    ]
    table = b"".join(struct.pack("<HHII", *entry) for entry in fields)
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + table + struct.pack("<I", 0))
    return path


@pytest.mark.parametrize(
    ("block", "samples", "bits", "fits"),
    [
        (32_768, 1, 8, True),
        (46_320, 1, 8, True),
        (46_352, 1, 8, False),
        (65_536, 1, 8, False),
        (32_768, 2, 8, True),
        (32_768, 3, 8, False),
        (16_384, 1, 64, True),
        (32_768, 1, 32, False),
        (400_000, 4, 16, False),
    ],
)
def test_a_block_may_decode_to_two_gibibytes(tmp_path: Path, block: int, samples: int, bits: int, fits: bool) -> None:
    assert fits == (block**2 * samples * bits // 8 <= 2 * 1024**3)
    path = declared(tmp_path / "bomb.tif", block, samples, bits)
    if fits:
        assert check_file(path) is not None
    else:
        with pytest.raises(SceneTooLargeError, match="MiB decoded; 2,048 MiB are the most"):
            check_file(path)


def test_a_scene_may_have_so_many_pixels(write_raster: WriteRaster) -> None:
    path = str(write_raster(np.zeros((30, 40), np.uint8)))
    assert open_scene([path], "a", OpenOptions(max_pixels=1200)).height == 30
    with pytest.raises(SceneTooLargeError, match="30 x 40 = 1,200 pixels; the limit is 1,199"):
        open_scene([path], "a", OpenOptions(max_pixels=1199))


def test_what_is_cut_off_is_seen_in_the_directory(write_raster: WriteRaster, tmp_path: Path) -> None:
    content = write_raster(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)).read_bytes()
    whole, cut = tmp_path / "whole.tif", tmp_path / "cut.tif"
    whole.write_bytes(content)
    cut.write_bytes(content[:-1])
    assert check_file(whole) is not None
    with pytest.raises(TruncatedError, match="truncated"):
        check_file(cut)
    cut.write_bytes(b"")
    with pytest.raises(NotARasterError, match="0 bytes"):
        check_file(cut)
