"""Scores against counting by hand, losses in order, and crops of metres whatever the grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
import shapely.affinity
from sklearn.metrics import cohen_kappa_score, f1_score

from geoseg.damage.crops import crop_of, pixel_shapes
from geoseg.damage.scale import building_figures, decided, xview2_score
from geoseg.dates.stack import StackReader, align, stacked
from geoseg.models.card_values import DamageFacts
from geoseg.models.readme_facts import readme_facts
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
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
    truth, found = (rng.integers(0, 5, (90, 40)) for _ in range(2))
    damage = [f1_score(truth[truth > 0] == k, found[truth > 0] == k) for k in range(1, 5)]
    expected = 0.3 * f1_score(truth.ravel() > 0, found.ravel() > 0) + 0.7 * 4 / sum(1 / (f + 1e-6) for f in damage)
    # Each column of the image is a building for each class that it holds.
    parts = [(k, found[:, col][truth[:, col] == k]) for col in range(40) for k in range(1, 5)]
    counts = np.array([np.bincount(part, minlength=5) for _, part in parts])
    score = xview2_score(counts, np.array([k - 1 for k, _ in parts]), int((found[truth == 0] > 0).sum()))
    assert score["score"] == pytest.approx(expected, abs=1e-9)


def test_the_median_makes_the_expected_steps_least() -> None:
    p = np.random.default_rng(2).dirichlet(np.ones(4), 200)
    steps = np.abs(np.arange(4)[:, None] - np.arange(4))
    expected = p @ steps
    assert np.allclose(expected[np.arange(200), decided(p)], expected.min(axis=1))


def test_worse_guesses_cost_more_and_probabilities_are_in_order() -> None:
    torch = pytest.importorskip("torch")
    from geoseg.damage.network import ordinal_loss, probabilities

    scores = torch.tensor([[4.0, 3.0, 2.0], [2.0, -2.0, 4.0], [-2.0, -3.0, -5.0]])
    p = probabilities(scores)
    assert torch.allclose(p.sum(1), torch.ones(3))
    assert (p >= 0).all()
    assert decided(p.numpy()).tolist() == [3, 1, 0]
    # Being worse than a class is less likely the worse the class, whatever the scores.
    wild = probabilities(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 5)
    assert (wild > -1e-6).all()
    # The loss is the negative log likelihood of the classes.
    for label in range(4):
        expected = -torch.log(p[:, label])
        each = torch.stack([ordinal_loss(one[None], torch.tensor([label])) for one in scores])
        assert torch.allclose(each, expected, atol=1e-4)
    weighted = ordinal_loss(scores[:2], torch.tensor([3, 0]), torch.tensor([1.0, 3.0]))
    each = [float(ordinal_loss(scores[k : k + 1], torch.tensor([label]))) for k, label in ((0, 3), (1, 0))]
    assert float(weighted) == pytest.approx((each[0] + 3 * each[1]) / 4)


def network(views: int, used: tuple[int, ...] = (0, 1)) -> Any:
    torch = pytest.importorskip("torch")
    from geoseg.damage.network import DamageNetwork
    from geoseg.models.networks.build import build_network
    from geoseg.models.networks.config import NetworkConfig

    torch.manual_seed(0)
    config = NetworkConfig("unet", "tu-mobilenetv3_small_050", 3, 2, {"encoder_depth": 4, "decoder_channels": [64, 32, 16, 16]})
    return DamageNetwork(build_network(config).encoder, 2, 4, used, ([100.0] * 3, [50.0] * 3), views).eval()


def test_a_network_of_all_views_sees_the_same_however_a_building_is_turned(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import onnxruntime

    from geoseg.damage.network import probabilities
    from geoseg.damage.saving import About, save_damage_model

    rng = np.random.default_rng(3)
    image = torch.from_numpy(rng.uniform(0, 255, (4, 6, 96, 96)).astype(np.float32))
    mask = torch.zeros(4, 1, 96, 96)
    mask[:, :, 20:60, 30:80] = 1
    turned = [
        (torch.rot90(i, turns, (-2, -1)), torch.rot90(m, turns, (-2, -1)))
        for turns in range(4)
        for i, m in ((image, mask), (image.flip(-1), mask.flip(-1)))
    ]
    every, single = network(8), network(1)
    with torch.no_grad():
        expected = every(image, mask)
        assert all(torch.allclose(every(*one), expected, atol=1e-4) for one in turned)
        assert not all(torch.allclose(single(*one), single(image, mask), atol=1e-3) for one in turned)
        # A network that looks at the image after alone does not see the other.
        after, other = network(2, used=(1,)), image.clone()
        other[:, :3] = 0
        assert torch.equal(after(image, mask), after(other, mask))
        assert not torch.equal(network(2)(image, mask), network(2)(other, mask))
    # What is saved gives the same without torch.
    facts = DamageFacts()
    about = About(
        name="damage",
        bands=("red", "green", "blue"),
        encoder="tu-mobilenetv3_small_050",
        figures=_figures(),
        license_name="MIT",
    )
    model = save_damage_model(every, tmp_path / "model", facts, about)
    # What was measured is quoted by pages and deliveries, which take the table at the head of the README.
    quoted = {entry.name: entry.text for entry in readme_facts(model.path)}
    assert quoted["Trained on"] == "6 buildings: 2 no damage, 0 minor damage, 3 major damage, 1 destroyed"
    assert "4 buildings" in quoted["Held out"]
    assert "macro F1 0.600, accuracy 0.750, 0.50 steps" in quoted["Held out"]
    assert quoted["F1 by class"] == "no damage 0.800, minor damage -, major damage 0.000, destroyed 1.000"
    session = onnxruntime.InferenceSession(str(model.onnx))
    (found,) = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
    assert np.allclose(found, probabilities(expected).numpy(), atol=1e-5)


def _figures() -> dict[str, Any]:
    held = building_figures(np.array([0, 0, 0, 3]), np.array([0, 0, 2, 3]))
    return {"buildings": 6, "classes": [2, 0, 3, 1], "held_out_figures": {**held, "ece": 0.1}}


def test_groups_are_of_neighbours_and_hold_each_building_once() -> None:
    pytest.importorskip("torch")
    from geoseg.damage.samples import groups_of

    rng = np.random.default_rng(4)
    place = rng.uniform(0, 1000, (400, 2))
    for count in (2, 5, 10, 30):
        group = groups_of(place, count, np.random.default_rng(0))
        sizes = np.bincount(group, minlength=count)
        assert len(sizes) == count
        assert sizes.min() >= 0.7 * len(place) / count
        # Along the line by which strips are cut, the group changes seldom.
        along = group[np.argsort(place[:, 0] + 0.37 * place[:, 1])]
        assert (np.diff(along) != 0).sum() < max(20, count)


def test_the_image_before_in_the_light_of_that_after() -> None:
    pytest.importorskip("torch")
    from geoseg.damage.samples import undamaged

    rng = np.random.default_rng(5)
    image = rng.uniform(50, 100, (20, 6, 32, 32)).astype(np.float32)
    image[:, 3:] = image[:, 3:] * 2 + 30
    image[:, :, :, :4] = 0
    lit = undamaged(image, 3)
    assert (lit[..., :4] == 0).all()
    assert lit[..., 4:].mean() == pytest.approx(image[:, 3:, :, 4:].mean(), rel=1e-3)
    assert lit[..., 4:].std() == pytest.approx(image[:, 3:, :, 4:].std(), rel=0.02)
    correlation = np.corrcoef(lit[:, 0, :, 4:].ravel(), image[:, 0, :, 4:].ravel())[0, 1]
    assert correlation == pytest.approx(1, abs=1e-4)


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
