"""The flow that keeps composites up to date and maps them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from support import LIMIT_S, WriteRaster, contents

import geoseg
from geoseg.errors import SceneError
from geoseg.models.model_folder import Model

pytest.importorskip("prefect")


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=LIMIT_S):
        yield


def test_composites_follow_their_source(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    """The maps are those of the command; a scene that comes changes the image of its period, and no other is mapped again."""
    from flows.composite import composite_scenes
    from pipeline.config.sections import Config

    for when, value in (("2019-05-01", 1), ("2019-06-01", 1), ("2020-05-01", 2)):
        write_raster(np.full((70, 80), value, np.uint8), f"s_{when}.tif")
    settings = {"composite": {"period": "year", "method": "median"}}
    args = ([str(tmp_path / "in")], str(tmp_path / "out"), Config.parse(settings), str(identity_model.path))
    entries = composite_scenes(*args)
    names = ["composite_2019", "composite_2020"]
    assert [(entry["scene"], entry["status"]) for entry in entries] == [(name, "done") for name in names]
    maps = geoseg.segment(
        tmp_path / "in",
        model=identity_model.path,
        out=tmp_path / "command",
        composite="median",
        period="year",
    )
    # The STAC item says when its image was written.
    ours = [contents(one.folder) | {"item.json": b""} for one in maps]
    assert ours == [contents(tmp_path / "out" / name) | {"item.json": b""} for name in names]
    assert [entry["status"] for entry in composite_scenes(*args)] == ["skipped", "skipped"]
    write_raster(np.full((70, 80), 2, np.uint8), "s_2020-06-01.tif")
    write_raster(np.full((70, 80), 0, np.uint8), "s_2020-07-01.tif")
    write_raster(np.full((70, 80), 0, np.uint8), "s_2020-08-01.tif")
    again = composite_scenes(*args)
    assert [entry["status"] for entry in again] == ["skipped", "done"]
    with rasterio.open(tmp_path / "out" / "composites" / "composite_2020.tif") as image:
        assert (image.read(1) == 1).all()
    assert composite_scenes(*args[:3]) == [str(tmp_path / "out" / "composites" / f"{name}.tif") for name in names]


def test_maps_of_periods_that_have_gone_are_taken_away(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    """Once all others are mapped; what somebody has changed in them stays, and so do maps of anything else."""
    from flows.composite import composite_scenes
    from pipeline.config.sections import Config

    for when, value in (("2019-05-01", 1), ("2020-05-01", 2)):
        write_raster(np.full((70, 80), value, np.uint8), f"s_{when}.tif")
    out, names = tmp_path / "out", ["composite_2019", "composite_2020"]
    config = Config.parse({"composite": {"period": "year", "method": "median"}})
    args = ([str(tmp_path / "in")], str(out), config, str(identity_model.path))
    composite_scenes(*args)
    write_raster(np.full((70, 80), 1, np.uint8), "other.tif").rename(tmp_path / "other.tif")
    geoseg.segment(tmp_path / "other.tif", model=identity_model.path, out=out)
    (tmp_path / "in" / "s_2019-05-01.tif").unlink()
    page = out / names[0] / "report.html"
    page.write_text("somebody's own")
    (out / names[0] / "notes.txt").write_text("of somebody, too")
    assert [entry["scene"] for entry in composite_scenes(*args)] == names[1:]
    kept = {path.name.partition(".kept-")[0]: path.read_text() for path in (out / names[0]).iterdir()}
    assert kept == {"report.html": "somebody's own", "notes.txt": "of somebody, too"}
    index = json.loads((out / "index.json").read_text())["scenes"]
    assert {entry["scene"] for entry in index} == {"composite_2020", "other"}
    assert (out / "other" / "classes.tif").is_file()
    assert sorted(path.name for path in (out / "composites").glob("composite_????.tif")) == ["composite_2020.tif"]


def test_a_deployment_composes_what_it_may_read(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.composite import composite_scenes
    from pipeline.config.sections import Config

    write_raster(np.ones((70, 80), np.uint8), "s_2019-05-01.tif")
    elsewhere = tmp_path / "elsewhere.tif"
    (tmp_path / "in" / "s_2019-05-01.tif").rename(elsewhere)
    (tmp_path / "in" / "s_2019-05-01.tif").symlink_to(elsewhere)
    for name, place in (("SOURCES", tmp_path / "in"), ("OUT", tmp_path / "out"), ("MODELS", identity_model.path)):
        monkeypatch.setenv(f"GEOSEG_ALLOWED_{name}", str(place))
    with pytest.raises(SceneError, match="outside of what this deployment may use"):
        composite_scenes([str(tmp_path / "in")], str(tmp_path / "out"), Config(), str(identity_model.path))
    assert not (tmp_path / "out").exists()
