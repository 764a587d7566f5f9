"""``geoseg match``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.defaults import default_of, listed
from pipeline.cli.groups import gathered
from pipeline.cli.lists import QUOTING, split_list
from pipeline.cli.numbers import Finite
from pipeline.cli.output import echo
from pipeline.evaluate.settings import MatchOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.evaluate.match_document import MatchDocument

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matching:
    """Rules of a match, and objects that count."""

    iou: float
    within: str | None
    classes: str | None
    sizes: str
    score: str
    assume_crs: str | None


@click.command("match")
@click.argument("found")
@click.argument("truth")
@click.option(
    "--iou",
    type=Finite(0, 1, min_open=True),
    default=default_of(MatchOptions, "iou"),
    show_default=True,
    help="Least overlap of a match.",
)
@click.option("--within", help="A file of polygons outside of which nothing is known, so that nothing there counts.")
@click.option("--classes", help=f"Classes of FOUND that count, by name: building,hut. {QUOTING} [default: all]")
@click.option(
    "--sizes", default=listed(MatchOptions, "sizes", "m2"), show_default=True, help="Areas that divide the objects into strata."
)
@click.option(
    "--score",
    default=default_of(MatchOptions, "score"),
    show_default=True,
    help="Column of FOUND with the score (confidence) of each polygon.",
)
@click.option("--assume-crs", help="The CRS of files that have none.")
@click.option("--pairs", type=click.Path(path_type=Path), help="Write the ids of objects that match: .csv.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Write the figures: .json.")
@click.option("--overwrite", is_flag=True, help="Replace the files.")
@gathered(matching=_Matching)
def command(
    found: str,
    truth: str,
    matching: _Matching,
    pairs: Path | None,
    out: Path | None,
    overwrite: bool,
) -> int:
    """Match the objects of a map with those of a truth, or of another date, one to one.

    FOUND and TRUTH are files of polygons or what segment wrote, in any CRS. Says how many match: F1, average
    precision of COCO, panoptic quality, by size, and near the seams of tiles against far from them.
    """
    from geoseg.errors import ConfigError
    from pipeline.config.units import parse_area
    from pipeline.evaluate.match import match_files
    from pipeline.evaluate.match_files import write_matched
    from pipeline.files.outputs import check_new_file

    for path in (pairs, out):
        if path is not None:
            check_new_file(path, overwrite=overwrite)
    try:
        limits = [parse_area(text) for text in split_list(matching.sizes, "--sizes")]
    except ValueError as error:
        raise ConfigError(f"--sizes: {error}") from error
    wanted = None if matching.classes is None else split_list(matching.classes, "--classes")
    result = match_files(
        found,
        truth,
        MatchOptions(iou=matching.iou, classes=wanted, sizes=limits, score=matching.score),
        within=matching.within,
        assume_crs=matching.assume_crs,
    )
    _show(result.document)
    write_matched(result, out, pairs)
    return 0


def _show(document: MatchDocument) -> None:
    figures = document["figures"]
    names = ("f1", "precision", "recall", "pq", "sq", "ap", "ap50", "ap75", "ar")
    echo("  ".join(f"{name} {_text(figures[name])}" for name in names))
    echo(
        f"{figures['matched']:,} of {figures['found']:,} found and {figures['truth']:,} in the truth match; "
        f"{figures['split']:,} split, {figures['merged']:,} merged"
    )
    rows = [(_range(row), row) for row in document["sizes"]]
    rows += [
        (f"{name} seams" if name == "near" else f"{name} from seams", row) for name, row in document.get("seams", {}).items()
    ]
    for title, row in rows:
        echo(f"  {title:20}  f1 {_text(row['f1'])}  precision {_text(row['precision'])}  recall {_text(row['recall'])}")


def _range(row: Mapping[str, float | None]) -> str:
    return f"{row['from_m2']:g} m2 and more" if row["to_m2"] is None else f"{row['from_m2']:g} to {row['to_m2']:g} m2"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
