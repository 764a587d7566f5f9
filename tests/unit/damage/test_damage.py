"""Scores against counting by hand, losses in order, and crops of metres whatever the grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
import shapely.affinity
from sklearn.metrics import cohen_kappa_score, f1_score

from geoseg.damage.crops import crop_of, pixel_shapes
from geoseg.damage.scale import building_figures, decided, xview2_score
from geoseg.models.card import DamageFacts
from geoseg.scenes.scene import OpenOptions, open_scene
from geoseg.scenes.stack import StackReader, align, stacked
from tests.support import TRANSFORM, UTM


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    figures = building_figures(found, truth)
    assert figures["macro_f1"] == pytest.approx(f1_score(truth, found, average="macro"))
    assert figures["kappa"] == pytest.approx(cohen_kappa_score(truth, found, weights="quadratic"))
    assert figures["steps_off"] == pytest.approx(np.abs(truth - found).mean())
    # What is not analysed is wrong, and never no damage.
    found[:100] = -1
    assert building_figures(found, truth)["accuracy"] <= 200 / 300
    assert building_figures(found, truth)["not_analysed"] == 100


def test_the_xview2_score_counts_pixels() -> None:
    rng = np.random.default_rng(1)
    pairs = [(rng.integers(0, 5, (30, 40)).astype(np.uint8), rng.integers(0, 5, (30, 40)).astype(np.uint8)) for _ in range(3)]
    found, truth = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    damage = [f1_score(truth[truth > 0] == k, found[truth > 0] == k) for k in range(1, 5)]
    expected = 0.3 * f1_score(truth > 0, found > 0) + 0.7 * 4 / sum(1 / (f + 1e-6) for f in damage)
    score = xview2_score([a for a, _ in pairs], [b for _, b in pairs])
    assert score["score"] == pytest.approx(expected, abs=1e-9)


def test_the_median_makes_the_expected_steps_least() -> None:
    p = np.random.default_rng(2).dirichlet(np.ones(4), 200)
    steps = np.abs(np.arange(4)[:, None] - np.arange(4))
    expected = p @ steps
    assert np.allclose(expected[np.arange(200), decided(p)], expected.min(axis=1))


def test_worse_guesses_cost_more_and_probabilities_are_in_order() -> None:
    torch = pytest.importorskip("torch")
    from geoseg.models.damage import ordinal_loss, probabilities

    logits = torch.tensor([[4.0, 3.0, 2.0], [2.0, -2.0, -4.0], [-2.0, -3.0, -5.0]])
    p = probabilities(logits)
    assert torch.allclose(p.sum(1), torch.ones(3))
    assert (p >= 0).all()
    assert decided(p.numpy()).tolist() == [3, 1, 0]
    destroyed = torch.tensor([3])
    costs = [float(ordinal_loss(one[None], destroyed)) for one in logits]
    assert costs == sorted(costs)
    weight = torch.tensor([1.0, 1.0, 1.0, 5.0])
    both = ordinal_loss(logits[:2], torch.tensor([3, 3]), weight)
    assert both == pytest.approx(float(ordinal_loss(logits[:2], torch.tensor([3, 3]))))


@pytest.mark.parametrize("kind", ["metres", "degrees", "rotated"])
def test_crops_show_as_many_metres_whatever_the_grid(tmp_path: Path, kind: str) -> None:
    """A building of 20 x 12 m is drawn into grids of other pixels; its crop is the same."""
    size, crs = 200, UTM
    if kind == "metres":
        transform = rasterio.Affine(0.5, 0, TRANSFORM.c, 0, -0.5, TRANSFORM.f)
    elif kind == "rotated":
        transform = TRANSFORM @ rasterio.Affine.rotation(20) @ rasterio.Affine.scale(0.05)
    else:
        crs = "EPSG:4326"
        transform = rasterio.Affine(6e-6, 0, -62.0, 0, -4e-6, -10.0)
    facts = DamageFacts()
    x, y = transform @ (100, 100)
    if kind == "degrees":
        per_x, per_y = 111_320 * np.cos(np.radians(10)), 110_600.0
        building = shapely.box(x - 10 / per_x, y - 6 / per_y, x + 10 / per_x, y + 6 / per_y)
    else:
        building = shapely.box(x - 10, y - 6, x + 10, y + 6)
    image = rasterio.features.rasterize([(building, 200)], (size, size), transform=transform, fill=50, dtype="uint8")
    paths = []
    for name in ("a", "b"):
        paths.append(tmp_path / f"{name}.tif")
        profile = {
            "driver": "GTiff",
            "height": size,
            "width": size,
            "count": 1,
            "dtype": "uint8",
            "crs": crs,
            "transform": transform,
        }
        with rasterio.open(paths[-1], "w", **profile) as target:
            target.write(image, 1)
    dates = align([open_scene([str(path)], path.stem, OpenOptions()) for path in paths])
    scene = stacked(dates, least=2, flags=False)
    shapes = pixel_shapes(np.array([building]), crs, scene.georeference)
    with StackReader(scene, (0, 1)) as reader:
        crop = crop_of(reader, shapes[0], scene.georeference, facts)
        away = crop_of(reader, shapely.affinity.translate(shapes[0], 500, 0), scene.georeference, facts)
    assert crop.reason is None
    assert away.reason == "off image"
    area = (crop.image[0] > 125).sum() * facts.gsd_m**2
    assert area == pytest.approx(240, rel=0.06)
    grown = (20 + 2 * facts.tolerance_m) * (12 + 2 * facts.tolerance_m)
    assert crop.mask.sum() * facts.gsd_m**2 == pytest.approx(grown, rel=0.12)
    # The building lies in the middle.
    rows, cols = np.nonzero(crop.image[1] > 125)
    assert (rows.mean(), cols.mean()) == pytest.approx((47.5, 47.5), abs=1)
