"""The columns of features against counts of pixels, one region at a time."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from scipy import ndimage
from support import patchy

from geoseg.formats.vector import write_features
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import polygonize_block
from geoseg.polygons.features import FeatureFacts, feature_batches
from geoseg.polygons.labelling import Measures
from geoseg.polygons.rings import Polygons
from geoseg.polygons.seams import OpenIndex, join_parts

UTM = Georeference((10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000_000.0), pyproj.CRS("EPSG:32721").to_wkt())
SHAPE = 60, 75


def features(
    classes: np.ndarray, confidence: np.ndarray, block: int, least: float = 0.0, simplify_px: float = 0.0
) -> geopandas.GeoDataFrame:
    """All features of a raster, worked on by blocks, in the order of their ids."""
    grid = BlockGrid(*classes.shape, block)
    results = [
        polygonize_block(
            grid,
            i,
            np.ascontiguousarray(classes[grid.framed(i).slices]),
            confidence[grid.core(i).slices],
            UTM,
            range(254),
            simplify_px=simplify_px,
        )
        for i in range(len(grid))
    ]
    parts = {i: result.open for i, result in enumerate(results)}
    joined = list(join_parts(grid, {i: OpenIndex.of(p) for i, p in parts.items()}, parts.__getitem__))
    polygons = Polygons.concatenate([*(r.closed for r in results), *(j.polygons for j in joined)])
    every = [*(r.closed_measures for r in results), *(j.measures for j in joined)]
    measures = Measures(*(np.concatenate([getattr(m, name) for m in every]) for name in Measures.__slots__))
    facts = FeatureFacts(
        UTM,
        {k: f"name {k}" for k in range(3)},
        has_confidence=True,
        scene="s",
        acquired="2024-01-02",
        model="m",
        model_sha256="0",
        min_area_m2=least,
    )
    tables = [batch.to_pandas() for batch in feature_batches(polygons, measures, None, facts)]
    frame = geopandas.GeoDataFrame(geopandas.pd.concat(tables, ignore_index=True))
    frame["geometry"] = shapely.from_wkb(frame["geometry"])
    return frame.sort_values("id", ignore_index=True)


@pytest.mark.parametrize("block", [4096, 16])
def test_each_feature_says_what_its_pixels_say(block: int) -> None:
    classes = patchy(*SHAPE, 4, 1, 1.5)
    confidence = np.random.default_rng(0).integers(0, 101, SHAPE).astype(np.uint8)
    frame = features(classes, confidence, block)
    regions = []
    for code in range(4):
        labels, count = ndimage.label(classes == code)
        regions += [(int(np.flatnonzero(labels == k)[0]), code, labels == k) for k in range(1, count + 1)]
    assert frame["id"].tolist() == [anchor for anchor, _, _ in sorted(regions, key=lambda r: r[0])]
    for row, (_, code, mask) in zip(frame.itertuples(), sorted(regions, key=lambda r: r[0]), strict=True):
        sure = np.sort(confidence[mask])
        assert row.code == code
        assert row[frame.columns.get_loc("class") + 1] == (f"name {code}" if code < 3 else "class 3")
        assert row.confidence == pytest.approx(sure.mean(), abs=0.051)
        # The least value that a tenth of the pixels do not exceed.
        assert row.confidence_p10 == sure[-(-len(sure) // 10) - 1]
        # Near the central meridian the scale of UTM is 0.9996.
        assert row.area_m2 == pytest.approx(mask.sum() * 100 / 0.9996**2, rel=1e-4)
        assert row.perimeter_m == pytest.approx(row.geometry.length / 0.9996, rel=1e-4)


def test_the_least_area_is_enough() -> None:
    classes = np.zeros((20, 20), np.uint8)
    classes[2:4, 2:4], classes[8:10, 8:11] = 1, 2
    everything = features(classes, np.zeros_like(classes), 4096)
    four, six = (float(everything.loc[everything["code"] == code, "area_m2"].iloc[0]) for code in (1, 2))
    exact = 4 * 100 / 0.9996**2
    for least, codes in ((exact * 0.999, [0, 1, 2]), (exact * 1.001, [0, 2]), (exact * 1.6, [0])):
        assert sorted(features(classes, np.zeros_like(classes), 4096, least)["code"].tolist()) == codes
    assert six / four == pytest.approx(1.5, rel=1e-6)


def test_simplified_features_have_their_own_area() -> None:
    classes = patchy(*SHAPE, 3, 2, 2.0)
    frame = features(classes, np.zeros_like(classes), 4096, simplify_px=2.0)
    plain = features(classes, np.zeros_like(classes), 4096)
    assert (frame["area_m2"] - plain["area_m2"]).abs().max() > 10
    np.testing.assert_allclose(frame["area_m2"], shapely.area(frame["geometry"]) / 0.9996**2, rtol=1e-4)
    assert frame["area_m2"].sum() == pytest.approx(plain["area_m2"].sum(), rel=1e-6)


def test_parquet_says_where_its_rows_are(tmp_path: Path) -> None:
    classes = patchy(*SHAPE, 3, 3, 2.0)
    found = polygonize_block(BlockGrid(*SHAPE), 0, classes, None, UTM, range(254))
    facts = FeatureFacts(UTM, {}, has_confidence=False, scene="s", acquired=None, model=None, model_sha256=None)
    path = tmp_path / "a.parquet"
    write_features(path, "parquet", lambda: feature_batches(found.closed, found.closed_measures, None, facts), UTM, SHAPE)
    frame, table = geopandas.read_parquet(path), pq.read_table(path)
    boxes = table["bbox"].to_pandas()
    for (_, own), box in zip(frame.bounds.iterrows(), boxes, strict=True):
        assert own.tolist() == [box["xmin"], box["ymin"], box["xmax"], box["ymax"]]
    geo = json.loads(pq.read_metadata(path).metadata[b"geo"])
    assert geo["columns"]["geometry"]["bbox"] == frame.total_bounds.tolist()
    assert geo["columns"]["geometry"]["geometry_types"] == ["Polygon"]
    west = geopandas.read_parquet(path, bbox=(500_000, 8_999_400, 500_100, 9_000_000))
    assert 0 < len(west) < len(frame)


def test_rings_are_in_one_order_and_do_not_repeat_their_first_vertex() -> None:
    classes = patchy(*SHAPE, 3, 4, 2.0)
    found = polygonize_block(BlockGrid(*SHAPE), 0, classes, None, UTM, range(254)).closed
    for a, b in pairwise(found.rings.tolist()):
        ring = found.rc[a:b]
        assert min(map(tuple, ring.tolist())) == tuple(ring[0])
        assert tuple(ring[-1]) != tuple(ring[0])
    assert found.areas.tolist() == [
        shapely.Polygon(found.rc[found.rings[i] : found.rings[i + 1]]).area
        - sum(shapely.Polygon(found.rc[found.rings[k] : found.rings[k + 1]]).area for k in range(i + 1, j))
        for i, j in pairwise(found.polygons.tolist())
    ]
