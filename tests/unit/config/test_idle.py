"""Settings that would do nothing are refused, each with what it is for; where they do something, they are not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support import call_cli

import geoseg
from geoseg.dialect import as_flags
from geoseg.errors import ConfigError
from pipeline.config.idle import Purpose, refuse_idle
from pipeline.config.sections import Config

SCENES = ("scenes", "a.tif", "https://h/b.tif")
MAPS = Purpose(inputs=SCENES)
MOSAIC = Purpose(inputs=SCENES, mosaic=True)
MEDIAN, BEST = (Purpose(inputs=SCENES, composite=method) for method in ("median", "best"))
IMAGES = Purpose(inputs=SCENES, composite="median", mapped=False)
Sections = Mapping[str, Mapping[str, Any]]
CASES: list[tuple[str, Sections, Purpose, str | None]] = [
    ("best", {}, MAPS, "is of composites; ask for one by --composite"),
    ("period", {}, MOSAIC, "is of composites"),
    ("least", {}, MEDIAN, None),
    ("best", {}, MEDIAN, "pixels get the median of all; give --composite best"),
    ("best", {}, IMAGES, "pixels get the median of all; give --method best"),
    ("best", {}, BEST, None),
    ("order", {}, MAPS, "is of mosaics; ask for one by --mosaic"),
    ("within", {}, MEDIAN, "is of mosaics"),
    ("combine", {}, MOSAIC, None),
    ("pixel_coords", {}, MOSAIC, "without a place on Earth"),
    ("pixel_coords", {}, IMAGES, "without a place on Earth"),
    ("pixel_coords", {}, MAPS, None),
    ("aoi_cut", {}, MAPS, "name one by --aoi"),
    ("aoi_cut", {"area": {"aoi": "1,2,3,4"}}, MAPS, None),
    ("aoi_cut", {}, MOSAIC, None),
    ("bbox", {}, MAPS, "is of STAC, and no input is an item"),
    ("max_items", {}, Purpose(inputs=()), "is of STAC"),
    *(("bbox", {}, Purpose(inputs=("a.tif", one)), None) for one in ("stac+https://h", "i.json", "t.parquet", "list.TXT")),
    ("device", {}, IMAGES, "none runs here; give --clouds model:NAME"),
    ("engine", {"scene": {"clouds": "model:c"}}, IMAGES, None),
    ("engine", {"scene": {"clouds": "scl"}}, IMAGES, "none runs here"),
    ("device", {"infer": {"engine": "onnx", "device": "cuda:1"}}, MAPS, "is of torch, and ONNX Runtime runs the network"),
    ("device", {"infer": {"engine": "onnx", "device": "cpu"}}, MAPS, None),
    ("device", {"infer": {"device": "cuda"}}, MAPS, None),
    ("compile", {"infer": {"engine": "onnx", "compile": "always"}}, MAPS, "give --engine torch"),
    ("style_table", {"vector": {"formats": ["geojson"]}}, MAPS, "is of GeoPackages"),
    ("simplestyle", {"vector": {"formats": ["gpkg"]}}, MAPS, "is of GeoJSON"),
    ("simplestyle", {}, MAPS, None),
    ("mask_band", {}, MAPS, "give them by --masks"),
    ("mask_values", {"dates": {"masks": ["a.tif"]}}, MAPS, None),
    ("max_shift", {"dates": {"coregister": "off"}}, MAPS, "leave --coregister off out"),
    ("max_shift", {}, MAPS, None),
]


@pytest.mark.parametrize(("key", "sections", "purpose", "said"), CASES)
def test_what_would_do_nothing_is_refused(key: str, sections: Sections, purpose: Purpose, said: str | None) -> None:
    config = Config.parse(sections)
    assert any(key in section.model_fields for section in map(type, (getattr(config, name) for name in Config.model_fields)))
    with as_flags():
        refuse_idle(["tile", "mosaic"], config, purpose)
        if said is None:
            refuse_idle([key], config, purpose)
            return
        with pytest.raises(ConfigError) as refused:
            refuse_idle([key], config, purpose)
    flag = f"--{key.replace('_', '-')}"
    assert str(refused.value).startswith(f"{flag}: ")
    assert said in str(refused.value)
    assert str(refused.value).endswith(", or leave it out")


def test_commands_and_calls_refuse_it_before_anything_is_done(tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "scenes"
    folder.mkdir()
    mapping = ["-m", "amazon-forest", "-o", out, folder]
    for args, said in (
        (["segment", *mapping, "--composite", "median", "--best", "medoid"], "--best: says which observation is the best"),
        (["segment", *mapping, "--order", "name"], "--order: is of mosaics; ask for one by --mosaic"),
        (["segment", *mapping, "--max-cloud-cover", "20"], "--max-cloud-cover: is of STAC"),
        (["deforestation", *mapping, folder, "--combine", "mean"], "--combine: is of mosaics"),
        (["watch", *mapping, "--once", "--combine", "mean"], "--combine: is of mosaics"),
        (["composite", "-o", out, folder, "--best", "medoid"], "--best: says which observation is the best"),
    ):
        done = call_cli(args)
        assert (done.returncode, said in done.stderr) == (2, True), (args, done.stderr)
    with pytest.raises(ConfigError, match="order: is of mosaics; ask for one by mosaic"):
        geoseg.segment(folder, model="amazon-forest", out=out, order="name")
    with pytest.raises(ConfigError, match="pixels get the mean of all; give method=best"):
        geoseg.composite(folder, out=out, method="mean", best="latest")
    with pytest.raises(ConfigError, match="combine: is of mosaics"):
        geoseg.deforestation([folder, folder], model="amazon-forest", out=out, combine="mean")
    assert not out.exists()
    # A file of settings may serve several commands.
    file = tmp_path / "settings.toml"
    file.write_text('[mosaic]\norder = "name"\n[composite]\nbest = "medoid"\n')
    done = call_cli(["segment", *mapping, "--config", file])
    assert "no raster in this folder" in done.stderr
