"""What names of files say: bands, scenes and dates."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoseg.scenes.acquired import acquisition_date, day_of, iso_date, year_of
from geoseg.scenes.bands.bandfiles import group_band_files, parse_band_file
from geoseg.scenes.sources import list_scenes


@pytest.mark.parametrize(
    ("stem", "band"),
    [
        ("T21LXH_20230714T140051_B04_10m", "red"),
        ("T21LXH_20230714T140051_B8A", "nir08"),
        ("S2B_X_B03", "green"),
        ("LC08_L2SP_226068_20230714_02_T1_SR_B4", "red"),
        ("LC08_L2SP_226068_20230714_02_T1_SR_B5", "nir"),
        ("LT05_L2SP_226068_19990714_02_T1_SR_B4", "nir"),
        ("LE07_L2SP_226068_20010714_02_T1_SR_B3", "red"),
        ("scene_B4", "b4"),
        ("scene_red", "red"),
        ("scene-NIR", "nir"),
        ("scene", None),
    ],
)
def test_bands_are_named_as_the_product_names_them(stem: str, band: str | None) -> None:
    found = parse_band_file(stem)
    assert (found[1] if found else None) == band


def test_bands_of_one_scene_are_one_scene() -> None:
    paths = ["x/a_B02.tif", "x/a_B03.tif", "y/a_B02.tif", "x/b.tif", "x/c_red.tif", "x/c_red.tiff"]
    scenes, single = group_band_files(paths)
    assert scenes == [("x/a", ["x/a_B02.tif", "x/a_B03.tif"], ["blue", "green"])]
    # A lone band, and two files of one band, are scenes of their own.
    assert sorted(single) == sorted(["y/a_B02.tif", "x/b.tif", "x/c_red.tif", "x/c_red.tiff"])


@pytest.mark.parametrize(
    ("tags", "name", "date"),
    [
        ({"ACQUISITIONDATETIME": "2023-07-14T16:00:51+02:00"}, "x_20200101", "2023-07-14T14:00:51Z"),
        ({"TIFFTAG_DATETIME": "2024:01:02 03:04:05"}, "x_20230714T140051", "2023-07-14T14:00:51Z"),
        ({"TIFFTAG_DATETIME": "2024:01:02 03:04:05"}, "x", "2024-01-02T03:04:05Z"),
        ({}, "x_2023-07-14_y", "2023-07-14"),
        ({}, "x_20231301", None),
        ({}, "x_20230230", None),
        ({"DATE_ACQUIRED": "2023-02-30"}, "x", None),
    ],
)
def test_dates_are_those_of_tags_then_of_names(tags: dict[str, str], name: str, date: str | None) -> None:
    assert acquisition_date(tags, name) == date


def test_dates_that_people_write() -> None:
    assert iso_date(" 20230714 ") == "2023-07-14"
    assert iso_date("2023-07-14T23:00:00-03:00") == "2023-07-15T02:00:00Z"
    assert iso_date("yesterday") is None


def test_scenes_of_one_name_are_refused_and_the_others_are_not(tmp_path: Path) -> None:
    for name in ("a.tif", "A.TIF", "b.tif", "sub/a.tif", "sub/c.tiff", "d.png", "e.txt", ".hidden/f.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    scenes, refused = list_scenes([str(tmp_path)])
    assert [ref.name for ref in scenes] == ["b", "sub/a", "sub/c"]
    assert {Path(item.name).name: item.status for item in refused} == {"a.tif": "failed", "A.TIF": "failed", "d.png": "skipped"}
    # The same file twice is one scene.
    twice, none = list_scenes([str(tmp_path / "b.tif"), str(tmp_path / "b.tif")])
    assert ([ref.name for ref in twice], none) == (["b"], [])


@pytest.mark.parametrize(
    ("text", "year", "day"),
    [
        ("1985", "1985", "1985-07-02"),
        ("2020-06-01", None, "2020-06-01"),
        ("2020-06-01T10:00:00Z", None, "2020-06-01"),
    ],
)
def test_a_year_is_a_date_whose_day_is_its_middle(text: str, year: str | None, day: str) -> None:
    assert (year_of(text), day_of(text).isoformat()) == (year, day)


@pytest.mark.parametrize("text", ["85", "0985", "19850", "1985-07", "year", ""])
def test_what_is_no_year(text: str) -> None:
    assert year_of(text) is None
    with pytest.raises(ValueError):
        day_of(text)
