"""``geoseg evaluate`` on real scenes: against scikit-learn on whole arrays, and whatever the windows, the grids, the files."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import sklearn.metrics
from rasterio.enums import Resampling
from rasterio.warp import calculate_default_transform, reproject
from scipy import ndimage

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.errors import ConfigError, GeoreferenceError
from pipeline.cli import run
from pipeline.evaluate.report import write_evaluation
from pipeline.evaluate.run import Evaluation, evaluate
from pipeline.evaluate.settings import MeasureOptions, TruthOptions

NAMES = {0: "other", 1: "forest"}


def write(path: Path, codes: np.ndarray, like: Path | None = None, **changes: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile: dict[str, object] = {
        "driver": "GTiff",
        "count": 1,
        "dtype": codes.dtype,
        "height": codes.shape[0],
        "width": codes.shape[1],
        "crs": "EPSG:32721",
        "transform": rasterio.Affine(10, 0, 600000, 0, -10, 9700000),
        "nodata": NODATA,
    }
    if like is not None:
        with rasterio.open(like) as dataset:
            profile |= {"crs": dataset.crs, "transform": dataset.transform}
    with rasterio.open(path, "w", **(profile | changes)) as dataset:
        dataset.write(codes, 1)
        dataset.update_tags(geoseg_scene=path.stem)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1))


@pytest.fixture(scope="module")
def scenes(forest_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Maps that are partly wrong, and the folder of their truths."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for number, path in enumerate(sorted((forest_data / "val" / "masks").iterdir())[:4]):
        truth = read(path)
        noise = ndimage.gaussian_filter(rng.normal(size=truth.shape), 3 + number)
        found = np.where(noise > np.quantile(noise, 0.9), 1 - truth, truth).astype(np.uint8)
        found[40:60, 100:200], found[:10] = NOT_ANALYSED, NODATA
        write(folder / "maps" / path.name, found, path)
        write(folder / "truth" / path.name, truth, path)
    return folder / "maps", folder / "truth"


@pytest.fixture(scope="module")
def whole(scenes: tuple[Path, Path]) -> Evaluation:
    return evaluate([str(scenes[0])], str(scenes[1]), names=NAMES, options=MeasureOptions(boundary=("1px", "3.5px", "60m")))


def test_the_figures_of_whole_arrays(scenes: tuple[Path, Path], whole: Evaluation) -> None:
    pairs = [(read(scenes[1] / path.name), read(path)) for path in sorted(scenes[0].iterdir())]
    known = [(t < 2) & (p < 2) for t, p in pairs]
    truth = np.concatenate([t[k] for (t, _), k in zip(pairs, known, strict=True)])
    found = np.concatenate([p[k] for (_, p), k in zip(pairs, known, strict=True)])
    document = whole.document
    assert document["confusion"] == sklearn.metrics.confusion_matrix(truth, found).tolist()
    figures = document["figures"]
    assert figures["miou"] == pytest.approx(sklearn.metrics.jaccard_score(truth, found, average="macro"))
    assert figures["kappa"] == pytest.approx(sklearn.metrics.cohen_kappa_score(truth, found))
    assert figures["mcc"] == pytest.approx(sklearn.metrics.matthews_corrcoef(truth, found))
    coverage = document["coverage"]
    assert coverage["labelled"] == sum(int((t < 2).sum()) for t, _ in pairs)
    assert coverage["not_analysed"] == sum(int(((t < 2) & (p == NOT_ANALYSED)).sum()) for t, p in pairs) > 0
    assert coverage["no_data"] == sum(int(((t < 2) & (p == NODATA)).sum()) for t, p in pairs) > 0
    low, high = document["intervals_95"]["miou"]
    assert low < figures["miou"] < high
    assert [line["distance"] for line in document["boundary"]] == ["1px", "3.5px", "60m"]
    for (t, p), scene in zip(pairs, document["scenes"], strict=True):
        both = (t < 2) & (p < 2)
        assert scene["accuracy"] == pytest.approx((t == p)[both].mean())


def test_windows_have_no_influence(scenes: tuple[Path, Path], whole: Evaluation) -> None:
    small = evaluate(
        [str(scenes[0])], str(scenes[1]), names=NAMES, options=MeasureOptions(boundary=("1px", "3.5px", "60m"), side=97)
    )
    assert json.dumps(small.document) == json.dumps(whole.document)
    for one, other in zip(small.scenes, whole.scenes, strict=True):
        assert one.errors is not None
        assert other.errors is not None
        assert np.array_equal(one.errors.picture(), other.errors.picture())


def test_truths_on_other_grids_and_as_vectors(scenes: tuple[Path, Path], whole: Evaluation, tmp_path: Path) -> None:
    name = min(path.name for path in scenes[0].iterdir())
    wanted = whole.document["scenes"][0]
    with rasterio.open(scenes[1] / name) as dataset:
        codes, transform, crs = dataset.read(1), dataset.transform, dataset.crs
        # The same truth, in pixels half as large, on a grid that begins elsewhere.
        fine = np.kron(codes, np.ones((2, 2), np.uint8))[3:, 5:]
        finer = transform @ rasterio.Affine.scale(0.5) @ rasterio.Affine.translation(5, 3)
        write(tmp_path / "fine" / name, fine, crs=crs, transform=finer)
        target, width, height = calculate_default_transform(crs, "EPSG:3857", dataset.width, dataset.height, *dataset.bounds)
        warped = np.full((2 * height, 2 * width), NODATA, np.uint8)
        target = target @ rasterio.Affine.scale(0.5)
        reproject(
            codes,
            warped,
            src_transform=transform,
            src_crs=crs,
            dst_transform=target,
            dst_crs="EPSG:3857",
            resampling=Resampling.nearest,
            src_nodata=NODATA,
            dst_nodata=NODATA,
        )
        write(tmp_path / "mercator" / name, warped, crs="EPSG:3857", transform=target)
    found = evaluate([str(scenes[0] / name)], str(tmp_path / "fine"), names=NAMES).document["scenes"][0]
    # All but the two rows and three columns that the finer truth leaves out.
    assert 0 < wanted["pixels"] - found["pixels"] <= 5 * 512
    assert found["miou"] == pytest.approx(wanted["miou"], abs=2e-3)
    found = evaluate([str(scenes[0] / name)], str(tmp_path / "mercator"), names=NAMES).document["scenes"][0]
    assert found["miou"] == pytest.approx(wanted["miou"], abs=2e-3)

    vectors = tmp_path / "vectors" / name.replace(".tif", ".geojson")
    vectors.parent.mkdir()
    assert (
        run(["vectorize", str(scenes[1] / name), "--out", str(vectors), "--names", "0=other,1=forest", "--min-area", "0m2"]) == 0
    )
    options = TruthOptions(column="class")
    found = evaluate([str(scenes[0] / name)], str(vectors), names=NAMES, truth_options=options).document["scenes"][0]
    assert found["confusion"] == wanted["confusion"]


def test_the_files_of_a_report(scenes: tuple[Path, Path], whole: Evaluation, tmp_path: Path) -> None:
    write_evaluation(whole, tmp_path / "out")
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert document == json.loads(json.dumps(whole.document))
    with (tmp_path / "out" / "scenes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scene"] for row in rows] == [*(s["scene"] for s in document["scenes"]), "all"]
    assert float(rows[-1]["miou"]) == document["figures"]["miou"]
    assert [float(row["miou"]) for row in rows[:-1]] == [s["miou"] for s in document["scenes"]]
    with (tmp_path / "out" / "classes.csv").open() as file:
        classes = list(csv.DictReader(file))
    assert [float(row["iou"]) for row in classes] == [c["iou"] for c in document["classes"]]
    assert float(classes[1]["boundary_f1_3.5px"]) == document["boundary"][1]["f1"]["forest"]

    text = (tmp_path / "out" / "report.html").read_text()

    class Page(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.pictures = 0

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            values = dict(attrs)
            if tag == "img":
                assert values["alt"]
                assert (values["src"] or "").startswith("data:image/png;base64,")
                self.pictures += 1
            # Nothing is fetched from elsewhere.
            assert tag not in {"script", "link", "iframe", "object"}
            href = values.get("href") or values.get("xlink:href") or "#"
            assert href.startswith("#") or (tmp_path / "out" / href).is_file(), tag
            if tag not in {"meta", "img", "path", "use", "br"}:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in {"path", "use"}:
                assert self.open.pop() == tag

    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.pictures == 4
    assert not re.search(r"url\((?!['\"]?#)|@import", text)
    for value in document["figures"].values():
        assert f"{value:.4f}" in text


def test_maps_that_geoseg_wrote(forest_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    val = forest_data / "val"
    images = sorted((val / "images").iterdir())[:2]
    arguments = [
        "segment",
        *map(str, images),
        "--model",
        "amazon-forest",
        "--out",
        str(tmp_path / "maps"),
        "--probabilities",
        "-q",
    ]
    assert run(arguments) == 0
    given = ["evaluate", "--pred", str(tmp_path / "maps"), "--truth", str(val / "masks"), "--out", str(tmp_path / "out")]
    assert run(given) == 2
    assert "no partner" in capsys.readouterr().err
    assert run([*given, "--allow-unpaired"]) == 0
    shown = capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [c["class"] for c in document["classes"]] == ["non-forest", "forest"]
    assert f"{document['figures']['miou']:.4f}" in shown
    assert len(document["unpaired"]) == 6
    scores = document["scores"]
    truth = np.concatenate([read(val / "masks" / path.name).ravel() for path in images])
    with_p = [tmp_path / "maps" / path.stem / "probabilities.tif" for path in images]
    layers = []
    for path in with_p:
        with rasterio.open(path) as dataset:
            layers.append(dataset.read(2).ravel())
    p = np.concatenate(layers)
    known = (truth < 2) & (p <= 100)
    expected = sklearn.metrics.average_precision_score(truth[known], p[known])
    assert scores["average_precision"]["forest"] == pytest.approx(expected, abs=1e-9)
    assert 0 <= scores["ece"] < 0.3
    # It is not written over without being asked.
    assert run([*given, "--allow-unpaired"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    for path in with_p:
        path.unlink()
    assert run([*given, "--allow-unpaired", "--overwrite"]) == 0
    again = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert again["confusion"] == document["confusion"]
    # The confidence of two classes gives the probabilities of both.
    assert again["scores"]["average_precision"]["forest"] == pytest.approx(expected, abs=2e-3)


def test_plain_images_and_the_measures_of_the_challenge(shared: Path, tmp_path: Path) -> None:
    labels = shared / "data" / "isbi2012" / "label"
    path = min(labels.iterdir())
    truth = read(path) > 0
    found = ndimage.binary_erosion(truth, iterations=1, border_value=1).astype(np.uint8)
    write(tmp_path / "maps" / f"{path.stem}.png", found, driver="PNG", crs=None, transform=None, nodata=None)
    names = {0: "membrane", 1: "cell"}
    options = TruthOptions(plain=True, values={"255": "cell", "0": "membrane"})
    document = evaluate(
        [str(tmp_path / "maps")],
        str(labels),
        names=names,
        truth_options=options,
        allow_unpaired=True,
        options=MeasureOptions(isbi="cell"),
    ).document
    assert document["isbi"]["v_rand"] > 0.95
    assert document["isbi"]["pixel_error"] == pytest.approx(1 - document["classes"][1]["dice"])
    with pytest.raises(ConfigError, match="no class"):
        evaluate(
            [str(tmp_path / "maps")],
            str(labels),
            names=names,
            truth_options=options,
            allow_unpaired=True,
            options=MeasureOptions(isbi="axon"),
        )


def test_mistakes_get_one_sentence(scenes: tuple[Path, Path], tmp_path: Path) -> None:
    maps, truths = scenes
    name = min(path.name for path in maps.iterdir())
    with pytest.raises(ConfigError, match="--names"):
        evaluate([str(maps)], str(truths))
    with pytest.raises(ConfigError, match="code 0 has no name"):
        evaluate([str(maps)], str(truths), names={1: "forest"})
    with pytest.raises(ConfigError, match="no such file"):
        evaluate([str(maps)], str(tmp_path / "nothing"), names=NAMES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no class raster"):
        evaluate([str(tmp_path / "empty")], str(truths), names=NAMES)
    with pytest.raises(ConfigError, match="no partner"):
        evaluate([str(maps / name)], str(truths), names=NAMES)
    for boundary, words in [("3", "not a distance"), ("0.5px", "from 1 to"), ("9000m", "from 1 to")]:
        with pytest.raises(ConfigError, match=words):
            evaluate([str(maps / name)], str(truths / name), names=NAMES, options=MeasureOptions(boundary=(boundary,)))
    codes = read(truths / name)
    odd = write(tmp_path / "odd.tif", np.where(codes == 1, np.uint8(7), codes), truths / name)
    with pytest.raises(ConfigError, match=r"value 7 at .* is no class.*--map 7="):
        evaluate([str(maps / name)], str(odd), names=NAMES)
    read_as = TruthOptions(values={"7": "forest"})
    assert evaluate([str(maps / name)], str(odd), names=NAMES, truth_options=read_as).document["figures"]["miou"] > 0.5
    more = write(tmp_path / "more.tif", np.where(codes == 1, np.uint8(2), codes), truths / name)
    with pytest.raises(ConfigError, match="code 2 is no class"):
        evaluate([str(more)], str(truths / name), names=NAMES)
    away = write(tmp_path / "away.tif", codes)
    with pytest.raises(ConfigError, match="cover the same place"):
        evaluate([str(maps / name)], str(away), names=NAMES)
    bare = write(tmp_path / "bare.tif", codes[:100], crs=None, transform=None)
    with pytest.raises(GeoreferenceError):
        evaluate([str(maps / name)], str(bare), names=NAMES)
    site = write(tmp_path / "site.tif", codes, truths / name, crs='LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(GeoreferenceError, match=r"site\.tif: the CRS site and .* have no relation"):
        evaluate([str(maps / name)], str(site), names=NAMES)
    shutil.copytree(truths, tmp_path / "two")
    shutil.copy(tmp_path / "two" / name, (tmp_path / "two" / name).with_suffix(".tiff"))
    with pytest.raises(ConfigError, match=r"are both the truth of"):
        evaluate([str(maps)], str(tmp_path / "two"), names=NAMES)
    shutil.copy(maps / name, tmp_path / "twice.tif")
    with pytest.raises(ConfigError, match="2 times"):
        evaluate([str(tmp_path / "twice.tif"), str(tmp_path / "twice.tif")], str(truths / name), names=NAMES)


@pytest.mark.slow
def test_memory_does_not_depend_on_the_raster(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    peaks = []
    for rows in (2048, 8192):
        files = []
        for name in ("map", "truth"):
            profile = {
                "driver": "GTiff",
                "count": 1,
                "dtype": "uint8",
                "height": rows,
                "width": 2048,
                "crs": "EPSG:32721",
                "nodata": NODATA,
                "transform": rasterio.Affine(10, 0, 600000, 0, -10, 9700000),
                "tiled": True,
                "compress": "deflate",
            }
            path = tmp_path / f"{name}-{rows}.tif"
            with rasterio.open(path, "w", **profile) as dataset:
                for row in range(0, rows, 512):
                    dataset.write(
                        np.kron(rng.integers(0, 2, (64, 256), np.uint8), np.ones((8, 8), np.uint8)),
                        1,
                        window=((row, row + 512), (0, 2048)),
                    )
            files.append(str(path))
        tracemalloc.start()
        evaluate([files[0]], files[1], names=NAMES, options=MeasureOptions(side=512))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
