"""What is left to the client of a cluster: the processor's time of its process between plan and publish."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import Row, Settings, call, fresh, in_turn, seconds_of, warm
from data import four_bands
from models import two_layers

if TYPE_CHECKING:
    from pipeline.infer.stage_parts import Part, PartWorkers, Stop
    from pipeline.infer.workers import Workers

BAR = 0.85
CONFIG = {"vector": {"formats": ["gpkg"]}, "run": {"workers": 1}}
SIDES: Mapping[str, tuple[str, ...]] = {
    "client does all": (),
    "workers trace": ("TraceBlocks",),
    "and compress": ("TraceBlocks", "CompressSquare"),
}
"""The parts that workers are asked for, by the names of their work."""


class Asking:
    """The workers of a run, which are asked for some parts alone."""

    def __init__(self, workers: Workers, names: tuple[str, ...]) -> None:
        self._workers, self._names = workers, names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workers, name)

    @property
    def parts(self) -> PartWorkers | None:
        """They themselves, where they are asked at all."""
        return self if self._names else None

    def do(self, part: Part, should_stop: Stop) -> bytes | None:
        """Have a part done; None for one of another kind."""
        workers = self._workers.parts
        return workers.do(part, should_stop) if workers is not None and type(part.work).__name__ in self._names else None


def client(scene: str, model: str, out: str, names: tuple[str, ...]) -> dict[str, Any]:
    """A run with one worker process of this machine: seconds of the processor and of the clock, and checksums."""
    from sides import import_geoseg

    from geoseg.models.model_folder import load_model
    from geoseg.scenes.sources import list_scenes
    from pipeline.config.sections import Config
    from pipeline.infer.cluster import cluster
    from pipeline.segment.overlapped import map_scene
    from pipeline.segment.planned import SceneJob
    from pipeline.segment.planning import plan
    from pipeline.segment.publishing import publish
    from pipeline.segment.run import held

    import_geoseg()
    config, ((ref,), _) = Config.parse(CONFIG), list_scenes([scene])
    job = SceneJob.of(ref, load_model(model), config, Path(out), 1)
    with cluster(config) as open_workers, held(job):
        planned = plan(job)
        own, clock = time.process_time(), time.perf_counter()
        mapped = map_scene(planned, lambda *given: Asking(open_workers(*given), tuple(names)))
        seconds, wall = time.process_time() - own, time.perf_counter() - clock
        publish(planned, mapped)
    report = json.loads((Path(out) / ref.name / "run.json").read_text(encoding="utf-8"))
    sums = [report["files"][name]["sha256"] for name in ("classes.tif", "confidence.tif", "polygons.gpkg")]
    return {"seconds": seconds, "wall": wall, "features": report["features"], "sha256": sums}


def cluster_rows(settings: Settings) -> Iterator[Row]:
    """Two-layer network on 4096 x 4096 x 4 uint16, one worker: what the client does, as workers are asked for more."""
    scene, model = four_bands(), two_layers()
    warm(scene, model)

    def side(names: tuple[str, ...]) -> Any:
        return lambda: call("bench_cluster:client", scene=scene, model=model, out=fresh("cluster"), names=names)

    done = in_turn({name: side(names) for name, names in SIDES.items()}, settings.repeat)
    seconds = {name: seconds_of(values, "seconds") for name, values in done.items()}
    results = [one.result for values in done.values() for one in values]
    equal = all(result["sha256"] == results[0]["sha256"] for result in results)
    alone, _, least = seconds.values()
    words = "; ".join(f"{value:.2f} s" for value in seconds.values())
    yield Row(
        "cluster",
        f"two-layer network, 4096 x 4096 x 4 uint16, GPKG, {results[0]['features']:,} polygons, one worker: processor's time of "
        f"the client between plan and publish: {'; '.join(seconds)}; bytes of all products",
        f"the last at most {BAR:g}x the first; equal",
        f"{words} ({least / alone:.2f}x); {'equal' if equal else 'DIFFERENT'}",
        equal and least <= BAR * alone,
        {"seconds": seconds, "wall": {name: seconds_of(values, "wall") for name, values in done.items()}},
    )
