"""The same network through geoseg and through SAHI's slicing: time, memory, duplicates and F1, as a table in Markdown.

    pip install sahi
    python benchmarks/bench_accuracy.py joplin
    python benchmarks/bench_sahi.py build/accuracy/joplin/boundaries--distances--watershed-0 --repeat 3

The scene is the half of Joplin that the model was not trained on, mirrored into a mosaic of so many times its side, which
has no seams of its own; F1 is that of the half alone. Both run the engine that geoseg chooses on tiles of the same size, and
overlap by as much; SAHI joins by its defaults (greedy merging, boxes matched by the intersection over the smaller area).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from common import ROOT, call, geoseg
from numpy.typing import NDArray

from pipeline.evaluate.match import match_files

TRUTH = ROOT.parent / "shared" / "data" / "joplin_damage" / "pre_buildings.geojson"
SCENE = ROOT / "build" / "accuracy" / "joplin" / "right.tif"


def sahi_side(scene: str, model: str, out: str, tile: int, overlap: float) -> dict[str, Any]:
    """The scene through SAHI, in memory as it needs it; polygons to a GeoPackage."""
    from sahi.models.base import DetectionModel
    from sahi.predict import get_sliced_prediction
    from sahi.prediction import ObjectPrediction
    from sahi.utils.cv import get_coco_segmentation_from_bool_mask

    from geoseg.inference.decision import Decision
    from geoseg.inference.engine import TileBatch
    from geoseg.instances.finding import found_objects
    from geoseg.models.model_folder import load_model
    from geoseg.training.validation import open_for_chips

    loaded = load_model(model)
    card, engine, decision = loaded.card, open_for_chips(loaded), Decision.of(loaded.card)

    class Wrapped(DetectionModel):  # type: ignore[misc, unused-ignore]
        def set_model(self, model: Any, **_: Any) -> None:
            self.model = model
            self.category_mapping = {"1": "building"}

        def perform_inference(self, image: NDArray[np.uint8]) -> None:
            pixels = np.ascontiguousarray(image.transpose(2, 0, 1))
            valid = np.ones(pixels.shape[1:], np.bool_)
            whole = slice(0, pixels.shape[1]), slice(0, pixels.shape[2])
            channels = engine.channels(TileBatch([pixels], [valid], valid.shape, [whole]))[0]
            probabilities = decision.by_class(decision.probabilities(channels[: card.scores]))
            self._original_predictions = found_objects(channels, probabilities, valid, card)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = ((0, 0),), full_shape_list: Any = None
        ) -> None:
            labels, _, score, _ = self._original_predictions
            found = []
            for number, sure in enumerate(score.tolist(), 1):
                segmentation = get_coco_segmentation_from_bool_mask(labels == number)
                if segmentation:
                    found.append(
                        ObjectPrediction(
                            segmentation=segmentation,
                            category_id=1,
                            category_name="building",
                            score=sure,
                            shift_amount=list(shift_amount_list[0]),
                            full_shape=None if full_shape_list is None else list(full_shape_list[0]),
                        )
                    )
            self._object_prediction_list_per_image = [found]

    with rasterio.open(scene) as dataset:
        image, transform, crs = dataset.read().transpose(1, 2, 0), dataset.transform, dataset.crs
    result = get_sliced_prediction(
        np.ascontiguousarray(image),
        Wrapped(model=engine, confidence_threshold=0.0),
        slice_height=tile,
        slice_width=tile,
        overlap_height_ratio=overlap,
        overlap_width_ratio=overlap,
        perform_standard_pred=False,
        verbose=0,
        force_postprocess_type=True,
    )
    shapes, scores = [], []
    for found in result.object_prediction_list:
        rings = [np.reshape(ring, (-1, 2)) for ring in found.mask.segmentation if len(ring) >= 6]
        shape = shapely.union_all(shapely.make_valid([shapely.Polygon(ring) for ring in rings]))
        shapes.append(shapely.transform(shape, lambda xy: np.stack(transform * (xy[:, 0], xy[:, 1]), axis=1)))
        scores.append(found.score.value)
    geopandas.GeoDataFrame({"score": scores}, geometry=shapes, crs=crs).to_file(out, driver="GPKG")
    return {"objects": len(shapes)}


def mosaic(path: Path, times: int) -> Path:
    """The scene, mirrored at its sides again and again."""
    with rasterio.open(SCENE) as scene:
        image, profile = scene.read(), scene.profile
    height, width = image.shape[1:]
    image = np.pad(image, ((0, 0), (0, height * (times - 1)), (0, width * (times - 1))), mode="symmetric")
    profile |= {"height": height * times, "width": width * times, "tiled": True, "blockxsize": 512, "blockysize": 512}
    with rasterio.open(path, "w", **profile) as target:
        target.write(image)
    return path


def doubled(path: Path) -> int:
    """Pairs of polygons of a file that share more than half of the smaller one."""
    frame = geopandas.read_file(path, layer=None if path.stem == "sahi" else "polygons")
    shapes = shapely.make_valid(frame.geometry.to_numpy())
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    one, other = one[one < other], other[one < other]
    common = shapely.area(shapely.intersection(shapes[one], shapes[other]))
    return int((common > 0.5 * np.minimum(shapely.area(shapes[one]), shapely.area(shapes[other]))).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--halo", type=int, default=64, help="half of what neighbouring tiles share")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    print("| scene, px | | seconds | peak MB | objects | doubled | F1 | split | AP50 |\n|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        for times in args.times:
            scene = mosaic(Path(work) / f"scene{times}.tif", times)
            sides: dict[str, list[Any]] = {"geoseg": [], "SAHI": []}
            files = {"geoseg": Path(work) / "maps" / scene.stem / "polygons.gpkg", "SAHI": Path(work) / "sahi.gpkg"}
            for _ in range(args.repeat):
                shutil.rmtree(files["geoseg"].parent, ignore_errors=True)
                sides["geoseg"].append(
                    geoseg(
                        "segment",
                        scene,
                        "--model",
                        args.model,
                        "--out",
                        Path(work) / "maps",
                        "--tile",
                        str(args.tile),
                        "--halo",
                        str(args.halo),
                        "--formats",
                        "gpkg",
                        "--quiet",
                        "--overwrite",
                        memory=True,
                    )
                )
                files["SAHI"].unlink(missing_ok=True)
                sides["SAHI"].append(
                    call(
                        "bench_sahi:sahi_side",
                        memory=True,
                        scene=scene,
                        model=args.model.resolve(),
                        out=files["SAHI"],
                        tile=args.tile,
                        overlap=2 * args.halo / args.tile,
                    )
                )
            for name, runs in sides.items():
                seconds = statistics.median(run.seconds for run in runs)
                peak = statistics.median(run.peak_bytes for run in runs)
                count = len(geopandas.read_file(files[name], layer="sahi" if name == "SAHI" else "polygons"))
                cells = [f"{seconds:.1f}", f"{peak / 1e6:.0f}", f"{count:,}", str(doubled(files[name]))]
                if times == 1:
                    with rasterio.open(SCENE) as dataset:
                        rim = [
                            dataset.transform * corner
                            for corner in ((0, 0), (dataset.width, 0), dataset.shape[::-1], (0, dataset.height))
                        ]
                        area = Path(work) / "area.gpkg"
                        geopandas.GeoSeries([shapely.Polygon(rim)], crs=dataset.crs).to_file(area)
                    figures = match_files(str(files[name]), str(TRUTH), within=str(area)).document["figures"]
                    cells += [f"{figures['f1']:.3f}", str(figures["split"]), f"{figures['ap50']:.3f}"]
                else:
                    cells += ["", "", ""]
                print(f"| {1024 * times} x {1024 * times} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
