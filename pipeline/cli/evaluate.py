"""``geoseg evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geoseg.errors import ConfigError
from pipeline.cli.defaults import default_of, listed
from pipeline.cli.groups import gathered
from pipeline.cli.lists import PAIRING, QUOTING, Assignments, split_list
from pipeline.cli.options import names_of
from pipeline.cli.output import echo
from pipeline.evaluate.settings import BaselineOptions, MeasureOptions, TruthOptions

if TYPE_CHECKING:
    from pipeline.evaluate.run import Evaluation
    from pipeline.evaluate.value_run import ValueEvaluation

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """Reading of maps and truths."""

    names: str | None
    values: tuple[str, ...]
    column: str | None
    outside: str
    plain: bool
    assume_crs: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairing:
    """Pairing of maps with truths."""

    rename: str | None
    allow_unpaired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measuring:
    """Measures."""

    boundary: str
    isbi: str | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beside:
    """Classical methods."""

    baseline: tuple[str, ...]
    baseline_train: tuple[str, ...]
    baseline_bands: str | None
    baseline_methods: str | None

    def options(self, seed: int) -> BaselineOptions | None:
        """The options; None where no methods are asked for.

        Raises:
            ConfigError: Some are given without the images.
        """
        if not self.baseline:
            if self.baseline_train or self.baseline_bands or self.baseline_methods:
                raise ConfigError(
                    "--baseline: give the images of the maps by it; the other options say how methods are fitted on them"
                )
            return None
        bands = None if self.baseline_bands is None else split_list(self.baseline_bands, "--baseline-bands")
        methods = None if self.baseline_methods is None else split_list(self.baseline_methods, "--baseline-methods")
        return BaselineOptions(images=self.baseline, train=self.baseline_train, bands=bands, methods=methods, seed=seed)


@click.command("evaluate")
@click.option(
    "--pred",
    "-p",
    "predictions",
    multiple=True,
    required=True,
    help="Class rasters, globs, folders of them, or what segment wrote; may be given several times.",
)
@click.option(
    "--truth",
    "-t",
    required=True,
    help="A class raster or a vector file for all maps, or a folder with one for each, of the same name.",
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), default=Path("evaluation"), show_default=True, help="The folder to make."
)
@click.option("--names", help=f"Class names where the maps have none: 0=other,1=forest. {QUOTING}")
@click.option(
    "--map",
    "values",
    multiple=True,
    metavar="VALUE=CLASS",
    help=f"Class of a value of the truth, or unlabelled. {PAIRING}",
)
@click.option("--column", help="Of vector files, the column that names the class. [default: all features are class 1]")
@click.option(
    "--outside",
    default=default_of(TruthOptions, "outside"),
    show_default=True,
    help="Of vector files, the class of what lies outside all features.",
)
@click.option(
    "--rename", metavar="OLD=NEW", help=f"Text in the name of a map, and what stands for it in that of its truth. {PAIRING}"
)
@click.option("--allow-unpaired", is_flag=True, help="Leave out maps without a truth, and truths without a map.")
@click.option("--plain", is_flag=True, help="Images without a place on Earth: PNG, or TIFF of the same size.")
@click.option("--assume-crs", help="The CRS of maps that have none.")
@click.option(
    "--boundary",
    default=listed(MeasureOptions, "boundary"),
    show_default=True,
    help="Distances for boundary IoU and boundary F1, in pixels or metres; none for no such measures.",
)
@click.option("--isbi", metavar="CLASS", help="Also the measures of the ISBI 2012 challenge, for regions of this class.")
@click.option(
    "--seed", type=click.IntRange(0), default=default_of(MeasureOptions, "seed"), show_default=True, help="Of the intervals."
)
@click.option(
    "--baseline",
    multiple=True,
    metavar="IMAGES",
    help="Also fit classical methods and judge them on the same pixels: the images of the maps, by their names: files, folders, "
    "globs; may be given several times.",
)
@click.option(
    "--baseline-train",
    multiple=True,
    metavar="IMAGES=LABELS",
    help="Labelled scenes to fit them on, or the recipe of a training, whose scenes to train on are taken. [default: each map's "
    "scene is judged by what was fitted on those of others]",
)
@click.option("--baseline-bands", metavar="NAMES", help="Bands for them: red,green,blue,nir. [default: all of the images]")
@click.option(
    "--baseline-methods",
    metavar="NAMES",
    help="Some of otsu, scene-otsu, histogram, canny, chan-vese, logistic, random-forest. [default: all]",
)
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
@gathered(reading=_Reading, pairing=_Pairing, measuring=_Measuring, beside=_Beside)
def command(
    predictions: tuple[str, ...],
    truth: str,
    out: Path,
    reading: _Reading,
    pairing: _Pairing,
    measuring: _Measuring,
    beside: _Beside,
    overwrite: bool,
) -> int:
    """Compare maps with their truth: confusion matrix, IoU, Dice, kappa, MCC, boundaries, intervals, and a report.

    Maps of values are compared with rasters of numbers: RMSE, MAE, bias and R2.
    """
    from pipeline.evaluate.report import REPORT, write_evaluation
    from pipeline.evaluate.run import evaluate
    from pipeline.evaluate.value_maps import find_value_maps, refuse_class_options
    from pipeline.evaluate.value_report import write_value_evaluation
    from pipeline.evaluate.value_run import evaluate_values
    from pipeline.files.outputs import check_new_folder

    check_new_folder(out, overwrite=overwrite)
    baselines = beside.options(measuring.seed)
    truths = TruthOptions(
        dict(Assignments("--map", "A=B").pair(text) for text in reading.values),
        reading.column,
        reading.outside,
        reading.plain,
        reading.assume_crs,
    )
    distances = () if measuring.boundary == "none" else tuple(split_list(measuring.boundary, "--boundary"))
    options = MeasureOptions(boundary=distances, isbi=measuring.isbi, seed=measuring.seed)
    rename = None if pairing.rename is None else Assignments("--rename", "A=B").pair(pairing.rename)
    if maps := find_value_maps(predictions):
        refuse_class_options(truth, truths, options, names_of(reading.names), baselines=baselines is not None)
        values = evaluate_values(maps, truth, options, rename=rename, allow_unpaired=pairing.allow_unpaired)
        write_value_evaluation(values, out, overwrite=overwrite)
        _show_values(values)
        echo(str(out / REPORT))
        return 0
    found = evaluate(
        predictions,
        truth,
        truth_options=truths,
        options=options,
        names=names_of(reading.names),
        allow_unpaired=pairing.allow_unpaired,
        rename=rename,
    )
    if baselines is not None:
        from pipeline.evaluate.classical import with_baselines

        found = with_baselines(found, baselines, truths)
    write_evaluation(found, out, overwrite=overwrite)
    _show(found)
    echo(str(out / REPORT))
    return 0


def _show(found: Evaluation) -> None:
    from pipeline.evaluate.report import TITLES, by_name

    document = found.document
    for entry in document["classes"]:
        values = (("iou", entry["iou"]), ("dice", entry["dice"]), ("precision", entry["precision"]), ("recall", entry["recall"]))
        echo(f"{entry['class']:20}" + "".join(f"  {key} {_number(value)}" for key, value in values))
    for name, value in by_name(document["figures"]).items():
        interval = found.intervals.get(name)
        text = f"  ({_number(interval[0])} to {_number(interval[1])})" if interval else ""
        echo(f"{TITLES[name]:20}  {_number(value)}{text}")
    coverage = document["coverage"]
    share = 100 * coverage["compared"] / max(1, coverage["pixels"])
    echo(
        f"{'compared':20}  {coverage['compared']:,} of {coverage['pixels']:,} px ({share:.1f} %); {coverage['labelled']:,} are "
        f"labelled, of them {coverage['not_analysed']:,} not analysed, {coverage['no_data']:,} without data"
    )
    if "baselines" in document:
        from pipeline.evaluate.classical_table import baseline_lines

        for line in baseline_lines(document["baselines"]):
            echo(line)


def _show_values(found: ValueEvaluation) -> None:
    from geoseg.evaluation.value_errors import VALUE_TITLES, value_text

    document = found.document
    for name, value in document["figures"].items():
        ends = found.intervals.get(name)
        span = "" if ends is None else f"  ({' to '.join(value_text(name, end, document['unit']) for end in ends)})"
        echo(f"{VALUE_TITLES[name]:20}  {value_text(name, value, document['unit'])}{span}")
    coverage = document["coverage"]
    echo(
        f"{'compared':20}  {coverage['compared']:,} of {coverage['pixels']:,} px; the truth has a value for "
        f"{coverage['known']:,}, of them {coverage['not_analysed']:,} not analysed, {coverage['no_data']:,} without data"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
