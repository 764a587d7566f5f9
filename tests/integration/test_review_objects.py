"""People correct objects: the raster of numbers, the classes and the polygons of a version say one thing, and ids live on."""

from __future__ import annotations

import filecmp
import json
import shutil
from pathlib import Path

import geopandas
import geopandas.testing
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
import shapely.affinity

import geoseg
from geoseg.codes import NOT_ANALYSED
from geoseg.errors import ConfigError
from geoseg.models.model_folder import Model
from pipeline.review.apply import apply_reviews
from tests.houses import image_of, town
from tests.support import TRANSFORM, UTM, call_cli

FILES = ("instances.tif", "classes.tif", "confidence.tif", "polygons.gpkg", "polygons.geojson", "coverage.geojson")


@pytest.fixture(scope="module")
def mapped(told_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Houses, found one by one, with a corner of no data."""
    folder = tmp_path_factory.mktemp("objects")
    image = image_of(town(3, (300, 360)))
    image[:, :30, :40] = 255
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": 300, "width": 360, "crs": UTM, "nodata": 255}
    with rasterio.open(folder / "a.tif", "w", transform=TRANSFORM, **profile) as dataset:
        dataset.write(image)
    done = call_cli(["segment", folder / "a.tif", "-m", told_model.path, "-o", folder / "out", "--formats", "gpkg,geojson"])
    assert done.returncode == 0, done.stderr
    return folder / "out" / "a"


@pytest.fixture
def scene(mapped: Path, tmp_path: Path) -> Path:
    """A copy of it, to review."""
    shutil.copytree(mapped, tmp_path / "a")
    return tmp_path / "a"


def objects_of(folder: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_file(folder / "polygons.gpkg", layer="polygons").set_index("id")


def raster(folder: Path, name: str) -> np.ndarray:
    with rasterio.open(folder / name) as dataset:
        return dataset.read(1)


def lonlat(shape: shapely.Geometry) -> dict:
    return geopandas.GeoSeries([shape], crs=UTM).to_crs("OGC:CRS84").iloc[0].__geo_interface__


def check_consistent(folder: Path) -> None:
    """Each polygon is the outline of the pixels that have its number, and has their class."""
    numbers, classes, found = raster(folder, "instances.tif"), raster(folder, "classes.tif"), objects_of(folder)
    assert set(found["instance"]) == set(np.unique(numbers)) - {0}
    assert found.index.is_unique
    regions = [*rasterio.features.shapes(numbers.astype(np.int32), numbers > 0, 4, TRANSFORM)]
    traced = {int(number): shapely.geometry.shape(shape) for shape, number in regions}
    assert len(regions) == len(found), "each number is one region"
    for _, one in found.iterrows():
        assert one.geometry.symmetric_difference(traced[one["instance"]]).area == 0
        assert (classes[numbers == one["instance"]] == one["code"]).all()
    assert call_cli(["verify", folder]).returncode == 0


def test_nothing_said_and_all_accepted_is_the_same_map(scene: Path) -> None:
    empty = apply_reviews(scene)
    assert filecmp.cmpfiles(scene, empty.folder, FILES, shallow=False)[0] == list(FILES)
    ann = geoseg.review(scene, name="ann")
    ann.decide(*({"action": "accept", "polygon": int(number)} for number in objects_of(scene).index))
    done = apply_reviews(scene)
    assert filecmp.cmpfiles(scene, done.folder, FILES, shallow=False)[0] == list(FILES)
    assert done.document["review"]["changed_pixels"] == 0
    check_consistent(done.folder)


def test_rasters_and_polygons_say_what_people_decided(scene: Path) -> None:
    before, numbers, classes = objects_of(scene), raster(scene, "instances.tif"), raster(scene, "classes.tif")
    by_size = before.sort_values("area_m2", ascending=False)
    gone, instead, redrawn, touched = (int(k) for k in by_size.index[3:7])
    outline = shapely.affinity.scale(before.geometry[redrawn], 0.6, 0.6)
    # A new one over free ground and over an object that is there.
    there = before.geometry[touched]
    # By whole pixels, so that no edge runs through centres.
    over = shapely.affinity.translate(there, (there.bounds[2] - there.centroid.x) // TRANSFORM.a * TRANSFORM.a)
    ann = geoseg.review(scene, name="ann")
    ann.decide(
        {"action": "reject", "polygon": gone, "reason": "no such thing there"},
        {"action": "reject", "polygon": instead, "reason": "no such thing there", "class": 0},
        {"action": "redraw", "polygon": redrawn, "class": 2, "geometry": lonlat(outline), "rest": 1},
        {"action": "redraw", "class": 2, "geometry": lonlat(over)},
    )
    done = apply_reviews(scene)
    check_consistent(done.folder)
    after, now, codes = objects_of(done.folder), raster(done.folder, "instances.tif"), raster(done.folder, "classes.tif")
    kept = before.index.difference([gone, instead, redrawn])
    # All others are as they were, with ids, numbers, scores and outlines.
    geopandas.testing.assert_geodataframe_equal(before.loc[kept], after.loc[kept], check_dtype=False)
    own = before["instance"]
    assert own[redrawn] == after["instance"][redrawn]
    burn = lambda shape: rasterio.features.rasterize([(shape, 1)], numbers.shape, transform=TRANSFORM) > 0  # noqa: E731
    drawn = burn(outline)
    np.testing.assert_array_equal(now == own[redrawn], drawn)
    assert (codes[(numbers == own[redrawn]) & ~drawn] == 1).all()
    assert (codes[numbers == own[gone]] == 254).all()
    assert (codes[numbers == own[instead]] == 0).all()
    assert not np.isin(now, [own[gone], own[instead]]).any()
    assert np.isnan(after["score"][redrawn])
    assert np.isnan(after["confidence"][redrawn])
    # What was drawn over other objects is cut at them, and that is told.
    (added,) = after.index.difference(before.index)
    free = burn(over) & ((now == 0) | (now == after["instance"][added]))
    assert (now == after["instance"][added]).sum() <= free.sum() < burn(over).sum()
    assert added >= numbers.size
    (cut,) = done.document["review"]["cuts"]
    lost = burn(over).sum() - (now == after["instance"][added]).sum()
    assert (cut["id"], cut["empty"], cut["pixels"]) == (added, False, lost)
    assert touched in cut["others"]
    assert any("smaller than people drew them" in text for text in done.document["warnings"])
    # Nothing else has another class.
    same = (numbers == now) & ~np.isin(numbers, own[[gone, instead, redrawn]])
    np.testing.assert_array_equal(codes[same], classes[same])
    review = done.document["review"]
    assert review["removed"] == [gone, instead]
    assert review["objects"] == len(after)
    corrections = raster(done.folder, "corrections.tif")
    assert (corrections[now == after["instance"][redrawn]] == 2).all()


def test_a_version_is_reviewed_further_and_an_object_may_vanish(scene: Path) -> None:
    before = objects_of(scene)
    one, other = (int(k) for k in before.sort_values("area_m2").index[-6:-4])
    ann = geoseg.review(scene, name="ann")
    inside = shapely.affinity.scale(before.geometry[one], 0.5, 0.5)
    ann.decide({"action": "redraw", "class": 2, "geometry": lonlat(inside)})
    empty = apply_reviews(scene)
    (cut,) = empty.document["review"]["cuts"]
    # Where an object is, another can't be drawn: it is told that nothing is left.
    assert (cut["empty"], cut["others"]) == (True, [one])
    check_consistent(empty.folder)
    again = {"action": "redraw", "class": 2, "geometry": lonlat(inside)}
    ann.decide({"action": "reject", "polygon": one, "reason": "border is wrong", "class": 0}, again)
    second = apply_reviews(scene)
    check_consistent(second.folder)
    (added,) = objects_of(second.folder).index.difference(before.index)
    geoseg.review(second.folder, name="bob").decide({"action": "reject", "polygon": int(added), "reason": "other"})
    geoseg.review(second.folder, name="bob").decide({"action": "reject", "polygon": other, "reason": "other"})
    third = apply_reviews(scene)
    check_consistent(third.folder)
    assert set(objects_of(third.folder).index) == set(before.index) - {one, other}
    assert (raster(third.folder, "instances.tif") > 0).sum() < (raster(scene, "instances.tif") > 0).sum()


def test_classes_without_objects_and_panoptic_maps_are_refused(scene: Path, told_model: Model, tmp_path: Path) -> None:
    number = int(objects_of(scene).index[0])
    with pytest.raises(ConfigError, match="class 1 has no objects; give one of 2"):
        geoseg.review(scene, name="ann").decide({"action": "class", "polygon": number, "class": 1})
    source = json.loads((scene / "run.json").read_text())["source"][0]
    done = call_cli(["segment", source, "-m", told_model.path, "-o", tmp_path / "pan", "--task", "panoptic", "--formats", "gpkg"])
    assert done.returncode == 0, done.stderr
    with pytest.raises(ConfigError, match="a panoptic map, of objects and classes at once, is not reviewed"):
        geoseg.review(tmp_path / "pan" / "a", name="ann")


def test_an_object_beside_the_map_is_told_and_sample_takes_the_folder_of_a_version(scene: Path, tmp_path: Path) -> None:
    left, bottom, *_ = objects_of(scene).total_bounds
    beside = shapely.box(left - 5000, bottom, left - 4900, bottom + 100)
    geoseg.review(scene, name="ann").decide({"action": "redraw", "class": 2, "geometry": lonlat(beside)})
    applied = call_cli(["review", "apply", scene])
    assert applied.returncode == 0
    assert "has the centre of no pixel of the map" in applied.stderr
    version = scene / "reviews" / "1"
    drawn = [
        geoseg.sample(path, out=tmp_path / f"{path.name}.gpkg", size=20, least=2) for path in (version, version / "classes.tif")
    ]
    assert drawn[0] == drawn[1]


def test_a_version_without_objects_is_delivered_as_not_analysed(scene: Path, tmp_path: Path) -> None:
    """Where the area is rounded to degrees, GDAL makes collections of it; polygons they are all the same."""
    none = ({"action": "reject", "polygon": int(number), "reason": "no such thing there"} for number in objects_of(scene).index)
    geoseg.review(scene, name="ann").decide(*none)
    version = apply_reviews(scene).folder
    done = call_cli(["deliver", version, "--out", tmp_path / "out", "--event", "E"])
    assert done.returncode == 0, done.stderr
    package = tmp_path / "out" / "delivery.gpkg"
    for name in ("areaOfInterest", "imageFootprint", "notAnalysed", "observedEvent"):
        inside, beside = geopandas.read_file(package, layer=name), geopandas.read_file(tmp_path / "out" / f"{name}.geojson")
        assert set(beside.geom_type) <= {"Polygon", "MultiPolygon"}
        assert len(inside) == len(beside)
        assert beside.to_crs(UTM).area.sum() == pytest.approx(inside.area.sum(), rel=1e-5)
    unknown = np.count_nonzero(raster(version, "classes.tif") == NOT_ANALYSED) * -TRANSFORM.determinant
    assert geopandas.read_file(package, layer="notAnalysed").area.sum() == pytest.approx(unknown, rel=1e-4)
