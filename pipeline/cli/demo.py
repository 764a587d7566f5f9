"""``geoseg demo``: a scene with known truth, mapped with a shipped model, and compared."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]

MODEL = "amazon-forest"


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
@click.option("--seed", type=int, default=7, show_default=True, help="Another number makes another scene.")
def command(out: Path, size: int, seed: int) -> int:
    """Make an Amazon frontier with known truth, map it with the shipped model, and compare."""
    import sys

    import rasterio

    from geoseg.evaluation.confusion import ConfusionMatrix
    from geoseg.models.folder import load_model
    from geoseg.procedural import Frontier
    from geoseg.scenes.sources import list_scenes
    from pipeline.atomic import atomic_path
    from pipeline.config import Config
    from pipeline.folder import segment_folder
    from pipeline.infer import LocalWorkers
    from pipeline.progress import PlainProgress, bars

    model = load_model(MODEL)
    image, truth = out / "scene" / f"frontier_{size}_{seed}.tif", out / "truth" / f"frontier_{size}_{seed}.tif"
    for path in (image, truth):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not (image.is_file() and truth.is_file()):
        click.echo(f"Making a scene of {size} x {size} pixels of 10 m: {image}", err=True)
        with atomic_path(truth) as truth_part, atomic_path(image) as image_part:
            Frontier(size, size, seed).write(image_part, truth_part)
    scenes, refused = list_scenes([str(image)])
    config = Config.parse({"vector": {"min_area": "0.5ha", "formats": ["geojson", "gpkg"]}, "run": {"overwrite": True}})
    progress = bars() if sys.stderr.isatty() else PlainProgress()
    try:
        (report,) = segment_folder(scenes, refused, model, config, out / "maps", LocalWorkers, progress)
    finally:
        progress.close()
    if report.status not in ("done", "skipped"):
        return 1
    folder = out / "maps" / report.scene
    matrix = ConfusionMatrix.zeros(len(model.card.classes))
    with rasterio.open(truth) as known, rasterio.open(folder / "classes.tif") as found:
        for _, window in known.block_windows(1):
            matrix += ConfusionMatrix.tally(known.read(1, window=window), found.read(1, window=window), len(model.card.classes))
    names = [c.name for c in model.card.classes]
    by_class = ", ".join(f"{name} {value:.3f}" for name, value in zip(names, matrix.iou(), strict=True))
    click.echo(f"\nAgreement with the truth, clouds and their shadows left out: {matrix.accuracy():.1%} of the pixels")
    click.echo(f"  IoU: {by_class}; mean {matrix.miou():.3f}")
    click.echo("Areas:")
    for entry in report.classes:
        if entry["area_m2"]:
            click.echo(f"  {entry['name']:14}{entry['area_m2'] / 1e4:14,.1f} ha")
    click.echo(
        f"The map:      {folder / 'classes.tif'}\nThe polygons: {folder / 'polygons.gpkg'}, {folder / 'polygons.geojson'}\nA picture:    {folder / 'preview.png'}"
    )
    click.echo("Drag the first two into QGIS: they bring their colours along.")
    return 0
