"""Workers that are closed hold no network any more, whoever holds them."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
from support import WriteRaster

from geoseg.inference.onnx_engine import OnnxEngine
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.infer.storage import open_storage
from pipeline.infer.workers import LocalWorkers
from pipeline.plan.make import make_plan


def test_closed_workers_let_go_of_the_network(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    (ref,), _ = list_scenes([str(write_raster(np.ones((300, 300), np.uint8)))])
    plan = make_plan(ref, identity_model, Config.parse({}))
    workers = LocalWorkers(plan, open_storage(str(tmp_path / "chunks")), [0])
    engine = workers._worker._members[0].engine
    assert isinstance(engine, OnnxEngine)
    session = weakref.ref(engine._session)
    del engine
    assert workers.submit(0).result().status == "done"
    assert session() is not None
    workers.close(interrupted=False)
    gc.collect()
    assert session() is None
