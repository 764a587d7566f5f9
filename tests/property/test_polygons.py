"""Polygons: equal to tracing the raster at once, whatever the blocks; rasterized they give the raster back."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from support import patchy

from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import polygonize_block, polygonize_uniform
from geoseg.polygons.labelling import Measures
from geoseg.polygons.pieces import cut_giants
from geoseg.polygons.rings import Polygons
from geoseg.polygons.seams import OpenIndex, join_parts
from geoseg.polygons.sieve import sieve_raster

FLAT = Georeference((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)


def vectorized(
    classes: np.ndarray,
    block: int,
    wanted: Collection[int] = range(254),
    *,
    confidence: np.ndarray | None = None,
    uniform: bool = True,
    **shape: float,
) -> tuple[Polygons, Measures]:
    """The polygons of a raster by blocks, in the order of their ids."""
    grid = BlockGrid(*classes.shape, block)
    polygons, measures, index, parts = [], [], {}, {}
    for i in range(len(grid)):
        framed = np.ascontiguousarray(classes[grid.framed(i).slices])
        sure = None if confidence is None else confidence[grid.core(i).slices]
        if uniform and not shape and (framed == framed[0, 0]).all():
            result = polygonize_uniform(grid, i, int(framed[0, 0]), sure, FLAT, wanted)
        else:
            result = polygonize_block(grid, i, framed, sure, FLAT, wanted, **shape)
        polygons.append(result.closed)
        measures.append(result.closed_measures)
        parts[i], index[i] = result.open, OpenIndex.of(result.open)
    for joined in join_parts(grid, index, parts.__getitem__):
        polygons.append(joined.polygons)
        measures.append(joined.measures)
    every = Polygons.concatenate(polygons)
    measured = Measures(*(np.concatenate([getattr(m, name) for m in measures]) for name in Measures.__slots__))
    order = np.argsort(measured.anchor, kind="stable")
    return every.take(order), measured.take(order)


def shapes_of(polygons: Polygons) -> np.ndarray:
    data, offsets = polygons.wkb(FLAT)
    return shapely.from_wkb([bytes(data[a:b]) for a, b in pairwise(offsets.tolist())])


@st.composite
def rasters(draw: st.DrawFn) -> np.ndarray:
    height, width, classes, seed = (
        draw(st.integers(1, 26)),
        draw(st.integers(1, 26)),
        draw(st.integers(1, 4)),
        draw(st.integers(0, 10**6)),
    )
    kind = draw(st.sampled_from(["noise", "patches", "squares"]))
    if kind == "patches" and classes > 1:
        return patchy(height, width, classes, seed, 1.0)
    noise = np.random.default_rng(seed).integers(0, classes, (height, width)).astype(np.uint8)
    return np.kron(noise[:4, :4], np.ones((6, 6), np.uint8)) if kind == "squares" else noise


def normal(geometry: shapely.Geometry) -> bytes:
    # Rings may start anywhere; GEOS drops the vertices on straight lines that rasterio writes.
    return shapely.to_wkb(shapely.normalize(shapely.simplify(geometry, 0)))


@given(rasters())
@settings(max_examples=120)
def test_equal_to_rasterio(classes: np.ndarray) -> None:
    polygons, measures = vectorized(classes, 4096)
    own = sorted((normal(s), int(v)) for s, v in zip(shapes_of(polygons), measures.value, strict=True))
    oracle = rasterio.features.shapes(classes, connectivity=4, transform=rasterio.Affine.identity())
    assert own == sorted((normal(shapely.geometry.shape(s)), int(v)) for s, v in oracle)
    assert shapely.is_valid(shapes_of(polygons)).all()


@given(rasters(), st.integers(1, 11))
@settings(max_examples=150)
def test_blocks_do_not_matter(classes: np.ndarray, block: int) -> None:
    confidence = np.random.default_rng(0).integers(0, 101, classes.shape).astype(np.uint8)
    whole, measured = vectorized(classes, 4096, confidence=confidence, uniform=False)
    cut, measured_cut = vectorized(classes, block, confidence=confidence)
    for name in Measures.__slots__:
        np.testing.assert_array_equal(getattr(measured_cut, name), getattr(measured, name), name)
    for name in Polygons.__slots__:
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name), name)


@given(rasters(), st.integers(1, 11))
@settings(max_examples=60)
def test_rasterized_they_give_the_raster_back(classes: np.ndarray, block: int) -> None:
    polygons, measures = vectorized(classes, block)
    back = np.full(classes.shape, 255, np.uint8)
    rasterio.features.rasterize(
        [(s, int(v)) for s, v in zip(shapes_of(polygons), measures.value, strict=True)],
        out=back,
        transform=rasterio.Affine.identity(),
    )
    np.testing.assert_array_equal(back, classes)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("simplify_px", "smooth"), [(1.5, 0), (4.0, 0), (0.0, 2), (1.5, 2)])
@pytest.mark.parametrize("block", [4096, 32, 17])
def test_simplified_borders_stay_shared(seed: int, simplify_px: float, smooth: int, block: int) -> None:
    classes = patchy(70, 83, 4, seed)
    polygons, _ = vectorized(classes, block, simplify_px=simplify_px, smooth=smooth)
    shapes = shapes_of(polygons)
    assert shapely.is_valid(shapes).all()
    # No gaps and no overlaps: the areas add up to the scene, and so does the area of their union.
    assert polygons.areas.sum() == pytest.approx(classes.size, abs=1e-6)
    assert shapely.union_all(shapes).area == pytest.approx(classes.size, abs=1e-6)
    if simplify_px:
        assert shapely.coverage_is_valid(shapes)


@given(rasters(), st.integers(1, 11), st.integers(2, 40))
@settings(max_examples=80)
def test_sieve(classes: np.ndarray, block: int, minimum: int) -> None:
    classes = classes.copy()
    classes[np.random.default_rng(1).random(classes.shape) < 0.05] = 255

    def sieved(size: int) -> np.ndarray:
        grid = BlockGrid(*classes.shape, size)

        def read(i: int) -> np.ndarray:
            return np.ascontiguousarray(classes[grid.framed(i).slices])

        sieve = sieve_raster(grid, range(len(grid)), read, FLAT, float(minimum))
        out = np.empty_like(classes)
        for i in range(len(grid)):
            out[grid.core(i).slices] = sieve.apply(grid, i, read(i))
        return out

    result = sieved(4096)
    np.testing.assert_array_equal(sieved(block), result)
    np.testing.assert_array_equal(result == 255, classes == 255)
    _, measures = vectorized(result, 4096)
    from scipy import ndimage

    land, _ = ndimage.label(result != 255)
    size_of = np.bincount(land.ravel())
    for anchor, pixels in zip(measures.anchor.tolist(), measures.pixels.tolist(), strict=True):
        # What is still too small has no neighbour that could take it over.
        assert pixels >= minimum or size_of[land[divmod(anchor, classes.shape[1])]] == pixels


def test_giants_are_cut_exactly() -> None:
    classes = (np.random.default_rng(0).random((300, 300)) > 0.35).astype(np.uint8)
    polygons, measures = vectorized(classes, 4096, (0, 1))
    sets = cut_giants(polygons, measures, np.zeros(len(polygons), np.int32), 2000)
    pieces, part = Polygons.concatenate([some.polygons for some in sets]), np.concatenate([some.part for some in sets])
    of_pieces = Measures(*(np.concatenate([getattr(some.measures, name) for some in sets]) for name in Measures.__slots__))
    assert polygons.vertices.max() > 50_000
    assert pieces.vertices.max() <= 2000
    assert pieces.areas.sum() == classes.size
    giant = int(polygons.vertices.argmax())
    own = of_pieces.anchor == measures.anchor[giant]
    assert sorted(part[own].tolist()) == list(range(1, own.sum() + 1))
    assert shapely.union_all(shapes_of(pieces)[own]).symmetric_difference(shapes_of(polygons)[giant]).area == 0
    assert (part[~own] == 0).all()
