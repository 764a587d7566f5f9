"""`geoseg area --reference`: what lies where in drawn blocks, raster or polygons, gives the error matrix of cluster sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray

from pipeline.sample.draw import draw_sample
from pipeline.sample.estimate import estimate_areas
from pipeline.sample.response import Reference
from pipeline.sample.settings import SampleSettings
from tests.labelled import NAMES, Bytes, write
from tests.support import TRANSFORM, UTM, call_cli, patchy

Place = tuple[Path, Bytes, Bytes, Path]
WGS84 = "EPSG:4326"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A map with errors, the truth, and blocks drawn from the map: 13 pixels a side, so that those at the border are cut."""
    folder = tmp_path_factory.mktemp("maps")
    noise = patchy(420, 510, 20, 3, 5.0)
    truth = np.select([noise == 0, noise == 1, noise < 9], [2, 3, 1], 0).astype(np.uint8)
    mapped = np.roll(truth, (2, 3), (0, 1))
    mapped[:40], mapped[100:150, 100:200] = 255, 254
    path = write(folder / "classes.tif", mapped)
    draw_sample(str(path), folder / "blocks.gpkg", SampleSettings(size=160, block=13, around=("forest loss",)))
    return path, mapped, truth, folder / "blocks.gpkg"


def polygons_of(codes: Bytes, path: Path, crs: str = UTM) -> Path:
    shapes = [(shapely.geometry.shape(s), NAMES[int(v)]) for s, v in rasterio.features.shapes(codes, transform=TRANSFORM)]
    frame = geopandas.GeoDataFrame({"kind": [name for _, name in shapes]}, geometry=[s for s, _ in shapes], crs=UTM)
    frame.to_crs(crs).to_file(path)
    return path


def unit_windows(blocks: Path) -> list[tuple[slice, slice]]:
    """Rows and columns of each drawn block, from its outline, in the order of units."""
    frame = geopandas.read_file(blocks, layer="sample").sort_values("unit")
    found = []
    for left, bottom, right, top in frame.geometry.bounds.to_numpy():
        (col, row), (col_stop, row_stop) = (~TRANSFORM @ corner for corner in ((left, top), (right, bottom)))
        found.append((slice(round(row), round(row_stop)), slice(round(col), round(col_stop))))
    return found


def oracle(mapped: Bytes, truth: Bytes, blocks: Path) -> dict[str, tuple[float, float]]:
    """Value and standard error in shares of pixels, from the textbook: Särndal, Swensson and Wretman 1992, result 5.6.2."""
    windows = unit_windows(blocks)
    has_loss = np.array([(mapped[w] == 2).any() for w in windows])
    rows, cols = range(0, 420, 13), range(0, 510, 13)
    population = [mapped[r : r + 13, c : c + 13] for r in rows for c in cols]
    population = [p for p in population if (p < 254).any()]
    sizes = [sum(not (p == 2).any() for p in population), sum((p == 2).any() for p in population)]
    known = [mapped[w] < 254 for w in windows]

    def total(pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.array([(pixels[w] & k).sum() for w, k in zip(windows, known, strict=True)], float)

    def found(y: Any, x: Any) -> tuple[float, float]:
        y, x = total(y), total(x)
        weight = np.where(has_loss, sizes[1] / has_loss.sum(), sizes[0] / (~has_loss).sum())
        value = (weight * y).sum() / (weight * x).sum()
        variance = 0.0
        for size, inside in zip(sizes, (~has_loss, has_loss), strict=True):
            residual, n = (y - value * x)[inside], inside.sum()
            variance += size**2 * (1 - n / size) * ((residual - residual.mean()) ** 2).sum() / (n - 1) / n
        return value, float(np.sqrt(variance) / (weight * x).sum())

    both, analysed = (mapped == 2) & (truth == 2), mapped < 254
    return {
        "overall": found(mapped == truth, analysed),
        "users": found(both, mapped == 2),
        "producers": found(both, truth == 2),
        "share": found(truth == 2, analysed),
    }


def figures(document: dict[str, Any], code: int = 2) -> dict[str, tuple[float, float]]:
    row = document["by_class"][code]
    every = {
        "overall": document["overall_accuracy"],
        "users": row["users_accuracy"],
        "producers": row["producers_accuracy"],
        "share": row["share"],
    }
    return {name: (entry["value"], entry["se"]) for name, entry in every.items()}


def test_a_raster_of_the_ground_gives_blocks_an_error_matrix(tmp_path: Path, place: Place) -> None:
    path, mapped, truth, blocks = place
    reference = write(tmp_path / "truth.tif", truth)
    done = call_cli(["area", "--map", path, "--sample", blocks, "--reference", reference, "--out", tmp_path / "area.json"])
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "area.json").read_text())
    assert "Stehman 1997" in document["estimator"]
    assert not any("blocks are few" in note for note in document["notes"])
    few = tmp_path / "few.gpkg"
    draw_sample(str(path), few, SampleSettings(size=30, block=13, least=2))
    assert any(
        note.startswith("30 blocks are few")
        for note in estimate_areas(str(path), few, reference=Reference(str(reference)))["notes"]
    )
    overall = document["overall_accuracy"]
    wanted = "Overall accuracy {value:.3f} ({low:.3f} to {high:.3f}, SE {se:.3f})"
    assert wanted.format(**overall) in done.stdout
    found = figures(document)
    for name, (value, se) in oracle(mapped, truth, blocks).items():
        # Pixels of UTM differ in size by some millionths.
        assert found[name][0] == pytest.approx(value, rel=1e-5), name
        assert found[name][1] == pytest.approx(se, rel=1e-4), name
    counts = np.zeros((4, 4), int)
    for window in unit_windows(blocks):
        known = mapped[window] < 254
        np.add.at(counts, (mapped[window][known], truth[window][known]), 1)
    assert document["error_matrix"]["counts"] == counts.tolist()
    analysed = mapped < 254
    for k, row in enumerate(document["by_class"]):
        assert abs(row["area"]["value"] - (truth[analysed] == k).mean() * document["population_area"]) < 3.5 * row["area"]["se"]


@pytest.mark.slow
def test_polygons_and_other_grids_say_the_same(tmp_path: Path, place: Place) -> None:
    path, _, truth, blocks = place
    same = estimate_areas(str(path), blocks, reference=Reference(str(write(tmp_path / "truth.tif", truth))))
    # Polygons along the borders of pixels, in the map's CRS and in degrees: middles of pixels lie well inside.
    for crs in (UTM, WGS84):
        vector = polygons_of(truth, tmp_path / f"{crs[-4:]}.gpkg", crs)
        found = estimate_areas(str(path), blocks, reference=Reference(str(vector), "kind"))
        assert found["error_matrix"] == same["error_matrix"]
        assert found["by_class"] == same["by_class"]
    # Only what was lost was drawn, and the rest is known to be of one class.
    loss = polygons_of(truth, tmp_path / "all.gpkg")
    frame = geopandas.read_file(loss)
    frame[frame["kind"] == "forest loss"].to_file(tmp_path / "loss.gpkg")
    found = estimate_areas(str(path), blocks, reference=Reference(str(tmp_path / "loss.gpkg"), "kind", "stable forest"))
    assert figures(found)["producers"] == pytest.approx(figures(same)["producers"])
    # A grid three times as fine, that begins elsewhere.
    fine = truth.repeat(3, axis=0).repeat(3, axis=1)
    fine = np.pad(fine, 5, constant_values=255)
    moved = TRANSFORM @ rasterio.Affine.scale(1 / 3) @ rasterio.Affine.translation(-5, -5)
    other = estimate_areas(str(path), blocks, reference=Reference(str(write(tmp_path / "fine.tif", fine, transform=moved))))
    assert other["error_matrix"] == same["error_matrix"]


def test_names_decide_where_codes_of_the_reference_are_others(tmp_path: Path, place: Place) -> None:
    path, _, truth, blocks = place
    same = estimate_areas(str(path), blocks, reference=Reference(str(write(tmp_path / "truth.tif", truth))))
    turned = write(tmp_path / "turned.tif", np.array([3, 2, 1, 0], np.uint8)[truth])
    with rasterio.open(turned, "r+") as target:
        target.update_tags(1, **{f"class_{3 - k}": name for k, name in enumerate(NAMES)})
    assert estimate_areas(str(path), blocks, reference=Reference(str(turned)))["error_matrix"] == same["error_matrix"]
    shifted = write(tmp_path / "shifted.tif", truth + np.uint8(10))
    with pytest.raises(ValueError, match=r"value 1[0-3] at row .* say what it means: --value 1"):
        estimate_areas(str(path), blocks, reference=Reference(str(shifted)))
    done = call_cli(
        [
            "area",
            "--map",
            path,
            "--sample",
            blocks,
            "--reference",
            shifted,
            *(f"--value={k + 10}={name}" for k, name in enumerate(NAMES)),
            "--out",
            tmp_path / "area.json",
        ]
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "area.json").read_text())["error_matrix"] == same["error_matrix"]


def test_a_reference_that_does_not_cover_a_drawn_block_is_refused(tmp_path: Path, place: Place) -> None:
    path, _, truth, blocks = place
    windows = unit_windows(blocks)
    rows, cols = windows[11]
    holes = truth.copy()
    holes[rows, cols][0, :5] = 255
    covered = write(tmp_path / "holes.tif", holes)
    with pytest.raises(ValueError, match=r"1 of 160 units have no class everywhere in .*: unit 12 has none in 5 of 169"):
        estimate_areas(str(path), blocks, reference=Reference(str(covered)))
    dropped = estimate_areas(str(path), blocks, reference=Reference(str(covered)), drop=True)
    assert (dropped["units"], dropped["left_out"]) == (159, 1)
    assert any("left out" in note for note in dropped["notes"])
    # What the map has not analysed need not be covered.
    partly = next(w for w in windows if 0 < (place[1][w] >= 254).sum() < place[1][w].size)
    hidden = truth.copy()
    hidden[partly][place[1][partly] >= 254] = 255
    estimate_areas(str(path), blocks, reference=Reference(str(write(tmp_path / "hidden.tif", hidden))))
    half = write(tmp_path / "half.tif", truth[:, :250])
    lonely = polygons_of(truth, tmp_path / "kinds.gpkg")
    for reference, text in (
        (Reference(str(half)), "units have no class everywhere"),
        (Reference(str(path)), "is the map itself"),
        (Reference(str(tmp_path / "none.tif")), "no such file"),
        (Reference(str(lonely)), "name the column"),
        (Reference(str(lonely), "sort"), "there are: kind"),
        (Reference(str(lonely), "kind", "water"), "'water' is none of"),
        (Reference(str(covered), "kind"), "is a raster"),
        (Reference(str(covered), values={"9": "water"}), "'water' is none of"),
    ):
        with pytest.raises((ValueError, OSError), match=text):
            estimate_areas(str(path), blocks, reference=reference)
    done = call_cli(["area", "--map", path, "--sample", blocks, "--column", "kind"])
    assert done.returncode == 2
    assert "give it, too" in done.stderr


def test_points_can_be_read_from_a_reference(tmp_path: Path, place: Place) -> None:
    path, mapped, truth, _ = place
    draw_sample(str(path), tmp_path / "points.gpkg", SampleSettings(size=400))
    found = estimate_areas(str(path), tmp_path / "points.gpkg", reference=Reference(str(write(tmp_path / "truth.tif", truth))))
    assert "Olofsson" in found["estimator"]
    counts = np.array(found["error_matrix"]["counts"])
    assert counts.sum() == 400
    size = np.array([(mapped == k).sum() for k in range(4)])
    # Equation 10 and 11 of Olofsson et al. 2014, with the correction for drawing without replacement.
    n = counts.sum(axis=1)
    p = counts / n[:, None]
    weight = size / size.sum()
    for k, row in enumerate(found["by_class"]):
        assert row["share"]["value"] == pytest.approx((weight * p[:, k]).sum(), rel=1e-5)
        variance = (weight**2 * (1 - n / size) * p[:, k] * (1 - p[:, k]) / (n - 1)).sum()
        assert row["share"]["se"] == pytest.approx(np.sqrt(variance), rel=1e-4)
