"""``geoseg review``."""

from __future__ import annotations

from pathlib import Path

import click

from geoseg.dialect import number_of
from pipeline.cli.output import echo

__all__ = ["command"]

TOLD = 20
"""Ids that a sentence names."""
FOLDER = click.argument("folder", metavar="OUT/SCENE", type=click.Path(path_type=Path))
NAME = click.option("--as", "name", metavar="NAME", help="Who reviews; stands in the log. [default: the user of this machine]")


@click.group("review")
def command() -> None:
    """Correct a map or graded buildings: people decide one by one, and their decisions make the next version."""


@command.command("open")
@FOLDER
@NAME
@click.option("--port", type=click.IntRange(1, 65535), help="The port on loopback. [default: any that is free]")
@click.option("--basemap", metavar="URL", help="Tiles of a map beneath: https://server/{z}/{x}/{y}.png. [default: none]")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the address in the browser.")
def open_map(folder: Path, name: str | None, port: int | None, basemap: str | None, *, browser: bool) -> int:
    """Review the polygons of a map in the browser, those first that are worth most; Ctrl-C ends it.

    OUT/SCENE is the folder of a scene, or of one of its versions. Only this machine can ask; each decision is a line of
    OUT/SCENE/reviews/log.jsonl, which is on the disk before the page goes on.
    """
    from pipeline.review.run import review

    review(folder, _name(name), _told, basemap=basemap, port=port or 0, browser=browser)
    return 0


@command.command("label")
@FOLDER
@NAME
@click.option(
    "--sample", type=click.Path(path_type=Path), metavar="FILE", help="Label this sample of the buildings. [default: their event]"
)
@click.option("--port", type=click.IntRange(1, 65535), help="The port on loopback. [default: any that is free]")
@click.option("--basemap", metavar="URL", help="Tiles of a map beneath: https://server/{z}/{x}/{y}.png. [default: none]")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the address in the browser.")
def label(folder: Path, name: str | None, sample: Path | None, port: int | None, basemap: str | None, *, browser: bool) -> int:
    """Label buildings in the browser by keys, without seeing their grades; Ctrl-C ends it.

    OUT/SCENE is a result of damage. Labels go into OUT/SCENE/reviews/labels.gpkg, which damage --labels learns a model of this
    event from; those first that the result asks for. With --sample, they go into a sample of geoseg sample, for geoseg area.
    """
    from pipeline.review.labelling.run import label as serve

    serve(folder, _name(name), _told, sample=sample, basemap=basemap, port=port or 0, browser=browser)
    return 0


@command.command("export")
@FOLDER
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The file to write: .gpkg.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def export(folder: Path, out: Path, *, overwrite: bool) -> int:
    """Write the polygons as a work file for QGIS, with a form for decisions and a project (.qgs) beside it."""
    from pipeline.review.qgis.work_file import export_work

    done = export_work(folder, out, overwrite=overwrite)
    echo(f"{out}: {number_of(done.polygons, 'polygon')}, {done.done:,} decided; open {done.project} in QGIS")
    return 0


@command.command("import")
@click.argument("work", metavar="WORK.gpkg", type=click.Path(path_type=Path))
@FOLDER
@NAME
def import_(work: Path, folder: Path, name: str | None) -> int:
    """Add the decisions of a work file to the log of OUT/SCENE: only those that are new; conflicts are told."""
    from pipeline.review.qgis.importing import import_work

    done = import_work(work, folder, _name(name))
    recorded, left = number_of(done.recorded, "decision"), number_of(done.undecided, "polygon")
    echo(f"{recorded} recorded; {done.same:,} known before, {left} undecided")
    for text in done.conflicts:
        echo(f"  conflict: {text}", err=True)
    if done.emptied:
        more = f" and {len(done.emptied) - TOLD:,} more" if len(done.emptied) > TOLD else ""
        ids = ", ".join(map(str, done.emptied[:TOLD])) + more
        cure = "reject those that are not there, or put their outlines back"
        echo(f"  without an outline in {work}, which decides nothing: polygons {ids}; {cure}", err=True)
    if done.deleted:
        gone = f"{number_of(done.deleted, 'polygon')} of the map {'is' if done.deleted == 1 else 'are'}"
        echo(f"  {gone} not in {work}, which decides nothing; reject those that are not there", err=True)
    return 0


@command.command("apply")
@FOLDER
def apply(folder: Path) -> int:
    """Make a version of the map with all decisions, in OUT/SCENE/reviews/N; the map itself stays as it is."""
    from pipeline.review.apply import apply_reviews

    done = apply_reviews(folder)
    review = done.document["review"]
    assert isinstance(review, dict)
    echo(f"{done.folder}{'' if done.is_new else ': is there already, of the same decisions'}")
    buildings = "changed_buildings" in review
    units, whole = ("buildings", "all") if buildings else ("objects" if "objects" in review else "polygons", "the mapped area")
    echo(f"  {review['polygons']:,} {units} reviewed, {review['share']:.1%} of {whole}; {review['added']:,} added")
    for one in review["agreement"]:
        echo(f"  {one['name']:24}{one['agreed']:8,} of {one['polygons']:,} agreed")
    counted = units if buildings else "pixels"
    echo(f"  {review[f'changed_{counted}']:,} {counted} have another class")
    for one in review["differences"]:
        before, after = one[f"{counted}_before"], one[f"{counted}_after"]
        if before != after:
            echo(f"  {one['name']:24}{before:12,} -> {after:,} {counted}")
    if review.get("removed"):
        echo(f"  {len(review['removed']):,} {units} are left out")
    for one in review.get("overlaps", ()):
        echo(f"  {units}: {one['id']} and {one['with']} share {one['area_m2']:g} m² since one was drawn", err=True)
    for one in review.get("cuts", ()):
        less = f"is {one['pixels']:,} pixels smaller than it was drawn{', and gone' * one['empty']}"
        told = less if one["pixels"] else "has the centre of no pixel of the map within its outline, and is gone"
        echo(f"  object {one['id']} {told}", err=True)
    if review["conflicts"]:
        echo(f"  {review['conflicts']:,} {units} on which reviewers differ; the last decision counts", err=True)
    if review["open"]:
        echo(f"  {review['open']:,} {units} wait for a second opinion", err=True)
    return 0


def _told(address: str) -> None:
    echo(address)
    echo("Ctrl-C ends it", err=True)


def _name(name: str | None) -> str:
    from pipeline.review.decisions import reviewer_or_user

    return reviewer_or_user(name)
