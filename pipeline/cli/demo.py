"""``geoseg demo``: a scene with known truth, mapped with a shipped model, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.changes.run import MappedChanges
    from pipeline.publish.report import SceneReport

__all__ = ["command"]

MODEL = "amazon-forest"
YEARS, FIRST, LATER = 9.0, "2014-07-14", "2023-07-14"
MAPPING_UNIT = "0.5ha"


@click.command("demo")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the scene and the result.",
)
@click.option("--size", type=click.IntRange(64), default=4096, show_default=True, help="Rows and columns of the scene.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Another number makes another scene.")
def command(out: Path, size: int, seed: int) -> int:
    """Make an Amazon frontier at two dates with known truth, map it and what changed with the shipped model, and compare."""
    import sys

    from geoseg.codes import NOT_ANALYSED
    from geoseg.models.model_folder import load_model
    from geoseg.scenes.sources import list_scenes
    from pipeline.changes.run import map_changes, pair_of
    from pipeline.config.sections import Config
    from pipeline.infer.workers import LocalWorkers
    from pipeline.segment.bars import bars
    from pipeline.segment.folder import segment_folder
    from pipeline.segment.progress import PlainProgress

    model = load_model(MODEL)
    images, truths = _make(out, size, seed)
    settings = {"vector": {"min_area": MAPPING_UNIT, "formats": ["geojson", "gpkg"]}, "run": {"overwrite": True}}
    config = Config.parse(settings)
    # What clouds and their shadows hide is known, as the quality layers of satellites tell it.
    masks = {"masks": [str(truth) for truth in truths], "mask_values": [NOT_ANALYSED]}
    scenes, refused = list_scenes([str(images[0])])
    click.echo(
        "The scene is made by rule: the check of the images will tell it from those that the model was made for.", err=True
    )
    progress = bars() if sys.stderr.isatty() else PlainProgress()
    try:
        (report,) = segment_folder(scenes, refused, model, config, out / "maps", LocalWorkers, progress)
        if report.status not in ("done", "skipped"):
            return 1
        changes = map_changes(
            pair_of([str(image) for image in images]),
            model,
            Config.parse({**settings, "dates": masks}),
            out / "changes",
            progress=progress,
        )
    finally:
        progress.close()
    if changes.report.status not in ("done", "skipped"):
        return 1
    _show(out / "maps" / report.scene, report, changes, truths, [c.name for c in model.card.classes])
    return 0


def _make(out: Path, size: int, seed: int) -> tuple[list[Path], list[Path]]:
    """Images and truths of both dates; those that are there stay."""
    from geoseg.procedural import Frontier
    from pipeline.files.outputs import output_file

    name = f"frontier_{size}_{seed}"
    images, truths = [], []
    for frontier in (Frontier(size, size, seed, acquired=FIRST), Frontier(size, size, seed, years=YEARS, acquired=LATER)):
        stem = name if not frontier.years else f"{name}_later"
        image, truth = out / "scene" / f"{stem}.tif", out / "truth" / f"{stem}.tif"
        for path in (image, truth):
            path.parent.mkdir(parents=True, exist_ok=True)
        if not (image.is_file() and truth.is_file()):
            click.echo(f"Making a scene of {size} x {size} pixels of 10 m: {image}", err=True)
            with output_file(truth) as truth_part, output_file(image) as image_part:
                frontier.write(image_part, truth_part)
        images.append(image)
        truths.append(truth)
    return images, truths


def _show(folder: Path, report: SceneReport, changes: MappedChanges, truths: list[Path], classes: list[str]) -> None:
    _compare("Agreement with the truth", folder / "classes.tif", truths[:1], classes)
    click.echo("Areas:")
    for entry in report.classes:
        if entry.area_m2:
            click.echo(f"  {entry.name:18}{entry.area_m2 / 1e4:14,.1f} ha")
    names = ["stable non-forest", "stable forest", "forest loss", "forest gain"]
    _compare(f"Agreement of the changes in {YEARS:g} years", changes.folder / "classes.tif", truths, names)
    click.echo("Changes:")
    for row in changes.document["classes"] if changes.document is not None else ():
        if row["area_ha"] and row["name"] != "no data":
            click.echo(f"  {row['name']:18}{row['area_ha']:14,.1f} ha")
    for title, one in (("map", folder), ("changes", changes.folder)):
        files = ", ".join(str(one / name) for name in ("classes.tif", "polygons.gpkg", "polygons.geojson"))
        click.echo(f"The {title}: {files}; a picture: {one / 'preview.png'}")
    click.echo("Drag the first two of each into QGIS: they bring their colours along.")


def _compare(title: str, found: Path, truths: list[Path], names: list[str]) -> None:
    """Print how a map agrees with the truth of its dates, where it is known at each."""
    import numpy as np

    from geoseg.codes import MAX_CLASS, NOT_ANALYSED
    from geoseg.dates.series import ABSENT, PRESENT
    from geoseg.evaluation.confusion import ConfusionMatrix
    from geoseg.scenes.gdal import open_written

    matrix = ConfusionMatrix.zeros(len(names))
    with open_written(found) as mapped, open_written(truths[0]) as first, open_written(truths[-1]) as last:
        for _, window in first.block_windows(1):
            before, after = first.read(1, window=window), last.read(1, window=window)
            truth = before
            if len(truths) > 1:
                codes = np.array([[ABSENT, 3], [2, PRESENT]], np.uint8)
                known = (before <= MAX_CLASS) & (after <= MAX_CLASS)
                truth = np.where(known, codes[np.where(known, before, 0), np.where(known, after, 0)], np.uint8(NOT_ANALYSED))
            matrix += ConfusionMatrix.tally(truth, mapped.read(1, window=window), len(names))
    click.echo(f"\n{title}, clouds and their shadows left out: {matrix.accuracy():.1%} of the pixels")
    iou = matrix.iou()
    for figure, values in (("IoU", iou), ("F1", 2 * iou / (1 + iou))):
        click.echo(f"  {figure}: " + ", ".join(f"{name} {value:.3f}" for name, value in zip(names, values, strict=True)))
    click.echo(f"  mean IoU {matrix.miou():.3f}")
