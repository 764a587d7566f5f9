"""``geoseg damage``."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geoseg.dialect import number_of
from pipeline.cli.defaults import default_of
from pipeline.cli.groups import gathered
from pipeline.cli.numbers import Finite
from pipeline.cli.options import ConfiguredCommand, config_from, config_options
from pipeline.cli.output import echo
from pipeline.damage.settings import FINDER, SUGGESTIONS, TRUTH_COLUMN, CountOptions, EventOptions

if TYPE_CHECKING:
    from geoseg.scenes.sources import SceneRef
    from pipeline.damage.evaluate import DamageFigures
    from pipeline.damage.run import DamageRun

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Buildings:
    """Sources of footprints."""

    footprints: str | None
    buildings: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graders:
    """What buildings are graded by: a model, and labels of the event."""

    model: str | None
    labels: tuple[str, ...]
    label_column: str
    label_next: int | None
    weights: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counting:
    """Counting of buildings."""

    zones: str | None
    cell_m: float
    tolerance_m: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judging:
    """Reference of the grades."""

    truth: Path | None
    truth_column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Output folder."""

    out: Path
    overwrite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """Form of what is printed."""

    as_json: bool
    quiet: bool


@click.command("damage", cls=ConfiguredCommand)
@click.argument("pre")
@click.argument("post")
@click.option(
    "--footprints",
    help="A file of building polygons, in any CRS; the address of a GeoParquet file, of which what lies on PRE is read; overture "
    "or microsoft, whose addresses are in GEOSEG_FOOTPRINTS_OVERTURE and _MICROSOFT. [default: found on PRE with --buildings]",
)
@click.option(
    "--model",
    "-m",
    help="A model of geoseg train-damage, or one that maps the classes of damage by pixels; with --labels, what is expected of "
    "the event, and the encoder. [default with --labels: the encoder of buildings]",
)
@click.option(
    "--labels",
    multiple=True,
    help="A file of points or polygons with a class, on some of the buildings: a model of this event is learned from them, in "
    "seconds. May be given more than once.",
)
@click.option("--label-column", default=TRUTH_COLUMN, show_default=True, help="Its column of classes.")
@click.option(
    "--label-next",
    type=click.IntRange(1),
    help=f"How many buildings label_next.gpkg names to label next; without --labels, where to begin, "
    f"by the grades of --model where it grades damage. [default: {SUGGESTIONS}]",
)
@click.option("--weights", help="Weights of an encoder for --labels, as of train-damage, in the place of the model's: a file.")
@click.option("--buildings", default=FINDER, show_default=True, help="The model that finds buildings, without --footprints.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Output folder; a folder is made in it.")
@click.option("--zones", help="A file of polygons, such as blocks, by which buildings are counted.")
@click.option(
    "--cell",
    "cell_m",
    type=Finite(1),
    default=default_of(CountOptions, "cell_m"),
    show_default=True,
    help="Side in metres of the cells.",
)
@click.option(
    "--tolerance",
    "tolerance_m",
    type=Finite(0),
    default=default_of(CountOptions, "tolerance_m"),
    show_default=True,
    help="Metres around a footprint that count to it, for models that map pixels.",
)
@click.option("--truth", type=click.Path(path_type=Path), help="Labelled footprints with the same ids, to judge by.")
@click.option("--truth-column", default=TRUTH_COLUMN, show_default=True, help="Their column of classes.")
@click.option("--overwrite", is_flag=True, help="Replace results of another run.")
@click.option("--json", "as_json", is_flag=True, help="Progress as JSON lines on standard output.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@gathered(wanted=_Buildings, given=_Graders, counting=_Counting, judging=_Judging, target=_Target, shown=_Shown)
def command(
    pre: str,
    post: str,
    wanted: _Buildings,
    given: _Graders,
    target: _Target,
    counting: _Counting,
    judging: _Judging,
    shown: _Shown,
    **options: object,
) -> int:
    """Grade the damage of buildings between the images PRE and POST on the scale of xBD.

    Buildings that one of the images does not show are not analysed, and say why.
    """
    from pipeline.changes.run import pair_under
    from pipeline.cli.segment import progress_for
    from pipeline.damage.buildings import open_pair
    from pipeline.damage.case import model_for
    from pipeline.damage.evaluate import judge_damage
    from pipeline.damage.fetched_footprints import footprints_for
    from pipeline.damage.run import keep_figures, map_damage
    from pipeline.plan.within import each_area

    config = config_from({**options, "run__overwrite": target.overwrite or None})
    event = EventOptions(labels=given.labels, label_column=given.label_column, label_next=given.label_next, weights=given.weights)
    loaded = model_for(given.model, event)
    pair = pair_under(config, [pre, post], loaded.card.bands)
    options_of_counting = CountOptions(zones=counting.zones, cell_m=counting.cell_m, tolerance_m=counting.tolerance_m)

    def make(ref: SceneRef) -> None:
        progress = progress_for(as_json=shown.as_json, quiet=shown.quiet)
        try:
            footprints = footprints_for(ref, wanted.footprints, wanted.buildings, loaded.card, config, target.out, progress)
            done = map_damage(ref, footprints, loaded, config, target.out, options_of_counting, event=event, progress=progress)
        finally:
            progress.close()
        figures = None
        if judging.truth is not None:
            scene = open_pair(ref, loaded.card, config).scene
            figures = judge_damage(done.folder / "buildings.gpkg", judging.truth, judging.truth_column, scene)
            keep_figures(done.folder, figures)
        if not shown.quiet and not shown.as_json:
            _show(done, figures)

    each_area(pair, config, make, lambda ref, error: echo(f"{ref.name}: skipped: {error}", err=True))
    return 0


def _show(done: DamageRun, figures: DamageFigures | None) -> None:
    from pipeline.publish.run_facts import offsets_told

    if done.skipped:
        echo(f"Done by an earlier run: {done.skipped}.")
    for line in offsets_told(done.document["registration"]):
        echo(line)
    if any(date["acquired"] is None for date in done.document["dates"]):
        echo("The dates of the images are not known; say them with --acquired DATE,DATE")
    for name, count in done.document["counts"].items():
        if name != "share_destroyed":
            echo(f"  {name:16}{count:10,}")
    if "area_of_interest" in done.document:
        echo(f"  {'left out':16}{done.document['area_of_interest']['left_out']:10,}")
    for reason, count in done.document["not_analysed"].items():
        echo(f"    {reason}: {count:,}")
    if (event := done.document.get("event_model")) is not None and (held := event["cross_validated"]) is not None:
        low, high = held["macro_f1_95"] or (math.nan, math.nan)
        echo(
            f"A model of this event, from {event['labels']} labelled buildings: macro F1 of labels held out "
            f"{held['macro_f1']:.3f} ({low:.3f} to {high:.3f})"
        )
    if event is not None and event["label_next"]:
        echo(f"To label next: {number_of(event['label_next'], 'building')}, in {done.folder / 'label_next.gpkg'}")
        echo(f"In the browser: {shlex.join(['geoseg', 'review', 'label', str(done.folder)])}")
    if figures is not None:
        low, high = figures["macro_f1_95"] or (math.nan, math.nan)
        echo(
            f"Macro F1 {figures['macro_f1']:.3f} ({low:.3f} to {high:.3f}), {figures['steps_off']:.2f} steps of the scale off, "
            f"xView2 score {figures['xview2']['score']:.3f}"
        )
    echo(f"The buildings: {done.folder / 'buildings.gpkg'}; the summary: {done.folder / 'damage.json'}")


command.params += config_options(
    ("scene", "area", "stac", "dates", "infer"),
    leave_out=(
        "aoi_cut",
        "of",
        "change_rate",
        "least_area",
        "least_width",
        "task",
        "tta",
        "probabilities",
        "uncertainty",
        "batch",
        "memory",
        "engine",
        "device",
    ),
)
