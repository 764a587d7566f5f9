"""Small pictures that were kept are those that are decoded, and those of other files are none of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.publish import small_pictures
from pipeline.publish.small_pictures import MOST_KEPT, SIDE, keep_small, small_picture


def drawn(seed: int, shape: tuple[int, int] = (700, 2100)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded."""
    names: list[str] = []
    decode = small_pictures.open_picture

    def noted(path: str) -> Image.Image:
        names.append(Path(path).name)
        return decode(path)

    monkeypatch.setattr(small_pictures, "open_picture", noted)
    return names


def test_kept_picture_is_the_decoded_one_also_under_another_name(tmp_path: Path, opened: list[str]) -> None:
    picture = drawn(1)
    picture.save(tmp_path / "a.png")
    decoded = small_picture(tmp_path / "a.png")
    keep_small(tmp_path / "a.png", picture)
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    kept = small_picture(tmp_path / "b.png")
    assert opened == ["a.png"]
    assert kept.shape == (87, SIDE, 3)
    np.testing.assert_array_equal(kept, decoded)
    # Its own size is that of the picture still.
    assert picture.size == (2100, 700)


def test_changed_file_is_decoded(tmp_path: Path, opened: list[str]) -> None:
    path = tmp_path / "a.png"
    # Of one length, whatever they show.
    drawn(1).save(path, compress_level=0)
    keep_small(path, drawn(1))
    facts = path.stat()
    drawn(2).save(path, compress_level=0)
    assert path.stat().st_size == facts.st_size
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    changed = drawn(2)
    changed.thumbnail((SIDE, SIDE))
    np.testing.assert_array_equal(small_picture(path), np.asarray(changed))
    assert opened == ["a.png"]


def test_no_more_are_kept_than_a_page_shows(tmp_path: Path, opened: list[str]) -> None:
    for number in range(MOST_KEPT + 1):
        path = tmp_path / f"{number}.png"
        drawn(number, (4, 4)).save(path)
        keep_small(path, drawn(number, (4, 4)))
    small_picture(tmp_path / f"{MOST_KEPT}.png")
    small_picture(tmp_path / "0.png")
    assert opened == ["0.png"]
