"""An output folder is held against its records, and its chunks against their source."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from support import WriteRaster, call_cli, patchy

from geoseg.models.model_folder import Model
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.files.owned import FileFacts, sealed
from pipeline.infer.workers import LocalWorkers
from pipeline.segment.folder import segment_folder
from pipeline.verify.recompute import most_differing


@pytest.fixture
def out(identity_model: Model, write_raster: WriteRaster, tmp_path: Path) -> Path:
    """Two scenes of six chunks each, mapped."""
    for name, seed in (("a", 0), ("b", 1)):
        write_raster(patchy(300, 520, 5, seed), f"{name}.tif")
    return mapped(identity_model, tmp_path)


def mapped(model: Model, folder: Path, **options: Any) -> Path:
    config = Config.parse({"grid": {"tile": 64, "halo": 0, "chunk": 256}, "run": options})
    scenes, refused = list_scenes([str(folder / "in" / "a.tif"), str(folder / "in" / "b.tif")])
    reports = segment_folder(scenes, refused, model, config, folder / "out", LocalWorkers)
    assert {report.status for report in reports} <= {"done", "skipped"}
    return folder / "out"


def verify(out: Path, *more: str | Path) -> tuple[int, dict[str, Any]]:
    done = call_cli(["verify", out, "--json", *more])
    return done.returncode, json.loads(done.stdout)


def reseal(folder: Path) -> None:
    """What somebody does who changes files and wants nobody to notice."""
    document = json.loads((folder / "run.json").read_text())
    document["files"] = {name: FileFacts.of(folder / name).to_json() for name in document["files"]}
    (folder / "run.json").write_text(json.dumps(sealed(document)))


def exact_bound(population: int, drawn: int, differing: int) -> int:
    """The same by counting in whole numbers."""

    def chance(bad: int) -> Fraction:
        ways = sum(comb(bad, k) * comb(population - bad, drawn - k) for k in range(differing + 1))
        return Fraction(ways, comb(population, drawn))

    return max(
        bad for bad in range(differing, population - drawn + differing + 1) if bad == differing or chance(bad) > Fraction(5, 100)
    )


@pytest.mark.parametrize(
    ("population", "drawn", "differing"),
    [(2980, 200, 0), (100, 10, 0), (100, 10, 2), (12, 12, 0), (12, 12, 3), (50, 1, 0), (7, 5, 1), (400, 399, 0)],
)
def test_the_bound_is_that_of_the_hypergeometric_distribution(population: int, drawn: int, differing: int) -> None:
    assert most_differing(population, drawn, differing) == exact_bound(population, drawn, differing)


def test_what_is_whole_is_whole_and_can_be_computed_anew(out: Path) -> None:
    code, found = verify(out)
    assert code == 0
    assert [folder["name"] for folder in found["folders"]] == ["a", "b"]
    assert not any(folder["faults"] or folder["notes"] for folder in found["folders"])
    # One hash for each run, that of its record, and one for all.
    alone = verify(out / "a")[1]
    assert alone["digest"] == found["folders"][0]["digest"] == json.loads((out / "a" / "run.json").read_text())["digest"]
    assert verify(out)[1]["digest"] == found["digest"] != alone["digest"]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    code, found = verify(out, "--recompute", "5", "--seed", "3")
    again = found["recomputed"]
    assert code == 0
    assert (again["population"], again["compared"], again["seed"], again["differing"]) == (12, 5, 3, [])
    assert again["at_most"] == exact_bound(12, 5, 0)
    assert again["sentence"].startswith("5 of 12 chunks recomputed, all equal (seed 3): 95 % sure that fewer than")
    everything = verify(out, "--recompute", "100")
    assert everything[0] == 0
    assert everything[1]["recomputed"]["sentence"].endswith(": these are all")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_what_was_changed_is_named_and_repaired(out: Path, identity_model: Model, tmp_path: Path) -> None:
    data = bytearray((out / "a" / "classes.tif").read_bytes())
    data[len(data) // 2] ^= 1
    (out / "a" / "classes.tif").write_bytes(data)
    (out / "a" / "polygons.gpkg").unlink()
    (out / "b" / "notes of somebody.txt").touch()
    record = out / "b" / "run.json"
    record.write_text(record.read_text().replace('"status": "done"', '"status": "Done"'))
    index = json.loads((out / "index.json").read_text())
    index["scenes"][0]["outputs"].append("a/more.tif")
    (out / "index.json").write_text(json.dumps(index))
    code, found = verify(out)
    first, second = found["folders"]
    assert code == 1
    assert first["faults"] == ["classes.tif has other content of the same size", "polygons.gpkg is missing"]
    assert second["faults"] == ["run.json was changed since it was written: its digest is another"]
    assert second["notes"] == ["not of this run: notes of somebody.txt"]
    assert found["faults"][0].startswith("index.json was changed")
    assert found["faults"][1] == "index.json lists a/polygons.gpkg and 1 more of a, which is not there"
    mapped(identity_model, tmp_path, overwrite=True)
    assert verify(out)[0] == 0


def test_a_map_that_its_source_does_not_give_is_found_however_it_is_sealed(out: Path) -> None:
    with rasterio.open(out / "a" / "classes.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        codes = dataset.read(1)
        codes[10, 10] = (codes[10, 10] + 1) % 5
        dataset.write(codes, 1)
    reseal(out / "a")
    document = json.loads((out / "b" / "chunks.json").read_text())
    document["chunks"][5][6] = "0" * 64
    (out / "b" / "chunks.json").write_text(json.dumps(document))
    reseal(out / "b")
    assert verify(out)[0] == 0
    code, found = verify(out, "--recompute", "12")
    assert code == 1
    assert found["recomputed"]["differing"] == [
        "a: chunk 0 (rows 0..192, cols 0..192): classes.tif holds others there",
        "b: chunk 5 (rows 192..300, cols 384..520): its pixels are others",
    ]
    assert found["recomputed"]["at_most"] == 2


def test_other_software_sources_and_models_are_told(out: Path, tmp_path: Path, write_raster: WriteRaster) -> None:
    # Made elsewhere, with other bytes: not damage.
    document = json.loads((out / "a" / "chunks.json").read_text())
    document["machines"] = ["another engine 1.0, another processor"]
    document["chunks"][0][6] = "0" * 64
    (out / "a" / "chunks.json").write_text(json.dumps(document))
    reseal(out / "a")
    # Another image by now.
    os.rename(tmp_path / "in" / "b.tif", tmp_path / "moved.tif")
    write_raster(np.zeros((300, 520), np.uint8), "b.tif")
    code, found = verify(out, "--recompute", "12")
    again = found["recomputed"]
    assert code == 3
    assert again["differing"] == []
    assert [text.split(":")[1] for text in again["rounding"]] == [" chunk 0 (rows 0..192, cols 0..192)"]
    assert "made by another engine 1.0" in again["notes"][0]
    assert len(again["missed"]) == 1
    assert "has changed since it was mapped" in again["missed"][0]
    assert again["population"] == 6
    # Where it is now, and no such model.
    assert verify(out / "b", "--recompute", "6", "--source", tmp_path / "in" / "b.tif")[0] == 3
    code, found = verify(out / "b", "--recompute", "2", "--model", "amazon-forest")
    assert code == 3
    assert "the model is another by now" in found["recomputed"]["missed"][0]


def test_what_is_no_output_is_refused(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none", "no such folder"), (tmp_path, "holds no run.json")):
        done = call_cli(["verify", path])
        assert done.returncode == 2
        assert said in done.stderr
    assert call_cli(["verify", tmp_path, "--seed", "1"]).returncode == 2
