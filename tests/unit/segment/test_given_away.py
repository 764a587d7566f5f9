"""Parts of stitch and vectorize that workers do: all products have the bytes of a run that does everything by itself."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import WriteRaster, contents, patchy

from geoseg.errors import Interrupted
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.infer.stage_parts import OtherCodeError, Part, Stop, do_part
from pipeline.infer.storage import open_storage
from pipeline.infer.workers import LocalWorkers
from pipeline.segment.run import segment_scene


class Through:
    """Does parts as another process would: from what was pickled alone. Of those that it loses nobody hears again."""

    def __init__(self, lose: Callable[[int], bool]) -> None:
        self.lose, self.names, self.lock = lose, list[str](), threading.Lock()

    def do(self, part: Part, should_stop: Stop) -> bytes | None:
        if should_stop():
            raise Interrupted("stopped before a part")
        with self.lock:
            number = len(self.names)
            self.names.append(part.name)
        if self.lose(number):
            return None
        digest = do_part(pickle.loads(pickle.dumps(part)))
        storage = open_storage(part.chunks.address)
        data = storage.get(part.name)
        storage.remove(part.name)
        assert hashlib.sha256(data).hexdigest() == digest
        return data


def mapped(
    out: Path, scene: Path, model: Model, settings: dict[str, dict[str, object]], through: Through | None = None
) -> dict[str, bytes]:
    """The final files of a run whose workers do parts, or of one in a single process."""

    class Workers(LocalWorkers):
        parts = through

    run: dict[str, object] = {} if through is None else {"workers": 2}
    config = Config.parse({"grid": {"tile": 1024, "halo": 0}, "infer": {"memory": "16GB"}, "run": run} | settings)
    assert segment_scene(SceneRef("scene", (str(scene),)), model, config, out, open_workers=Workers).status == "done"
    return contents(out / "scene")


@pytest.fixture
def scene(write_raster: WriteRaster) -> Path:
    """Six blocks, one of a single class, some without data; polygons that run over all seams."""
    image = patchy(1300, 2300, 3, size=9.0)
    image[:1100, 900:2100] = 1
    image[:, 2200:] = 255
    return write_raster(image, nodata=255)


@pytest.mark.parametrize(
    ("vector", "traced"),
    [
        ({"max_vertices": 2000}, True),
        ({"simplify": 1.0, "classes": ("1", "2")}, True),
        # What is too small is known once all is traced, so that nobody else traces.
        ({"min_area": "1ha"}, False),
    ],
)
def test_bytes_do_not_depend_on_who_does_it(
    scene: Path, identity_model: Model, tmp_path: Path, vector: dict[str, object], traced: bool
) -> None:
    formats = {"vector": {"formats": ("gpkg", "geojson"), **vector}}
    alone = mapped(tmp_path / "alone", scene, identity_model, {"grid": {"tile": 1024, "halo": 0, "chunk": 4096}, **formats})
    losses: tuple[tuple[int, Callable[[int], bool]], ...] = ((1024, lambda number: number % 3 == 0), (2048, lambda _: False))
    for chunk, lose in losses:
        through = Through(lose)
        given = {"grid": {"tile": 1024, "halo": 0, "chunk": chunk}, **formats}
        assert mapped(tmp_path / str(chunk), scene, identity_model, given, through) == alone
        kinds = {name.split(".")[1] for name in through.names}
        assert kinds == ({"traced", "squares"} if traced else {"squares"})
        assert len(set(through.names)) == len(through.names)


def test_nothing_is_left_of_parts(scene: Path, identity_model: Model, tmp_path: Path) -> None:
    """Also of one whose client was killed before it took it up."""
    storage = open_storage(str(tmp_path / "chunks"))
    for name in ("0000012.traced.npy", "0000003.squares.npy", ".0000003.squares.0123456789abcdef.tmp.npy"):
        storage.put(name, b"x")
    storage.clear()
    assert not (tmp_path / "chunks").exists()


def test_other_code_does_no_part(tmp_path: Path, scene: Path, identity_model: Model) -> None:
    import dataclasses

    class Other(Through):
        def do(self, part: Part, should_stop: Stop) -> bytes | None:
            assert not should_stop()
            with pytest.raises(OtherCodeError):
                do_part(dataclasses.replace(part, code="0.0+other"))
            self.names.append(part.name)
            return None

    through = Other(lambda _: False)
    mapped(tmp_path / "out", scene, identity_model, {}, through)
    assert through.names


def test_uniform_sides_take_no_memory() -> None:
    import pyarrow as pa
    import pyproj

    from geoseg.georeference import Georeference
    from geoseg.polygons.block_grid import BlockGrid
    from geoseg.polygons.blocks import polygonize_block
    from geoseg.polygons.features import feature_schema
    from pipeline.vectorize.elsewhere import packed, unpacked
    from pipeline.vectorize.traced import TracedBlock

    place = Georeference((10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000_000.0), pyproj.CRS("EPSG:32721").to_wkt())
    grid, codes = BlockGrid(192, 192, 64), patchy(66, 66, 2, size=3.0)
    codes[0:3] = 1
    opened = polygonize_block(grid, 4, codes, np.full((64, 64), 60, np.uint8), place, (0, 1)).open
    (found,) = unpacked(packed([TracedBlock(4, opened, list[pa.RecordBatch]())], feature_schema()))
    assert found.block == 4
    for name in ("histograms", "rc", "marks", "rings", "owner"):
        a, b = getattr(found.open, name), getattr(opened, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    assert list(found.open.sides) == list(opened.sides)
    assert all(np.array_equal(found.open.sides[side], edge) for side, edge in opened.sides.items())
    assert found.open.sides["top"].strides == (0,)
