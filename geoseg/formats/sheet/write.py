"""A map sheet: one page of A4 with the map, its legend, scale, north, sources and disclaimer, as PDF and as PNG.

The same values give the same bytes with the same release of matplotlib: no clock is read, and the date of production is one
of the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import ConfigError
from geoseg.formats.sheet.band import band
from geoseg.formats.sheet.content import Outline, Picture, Sheet
from geoseg.formats.sheet.fonts import families
from geoseg.formats.sheet.frame import MapFrame
from geoseg.formats.sheet.geopdf import georeferenced
from geoseg.formats.sheet.map import FRAME_MM, PAGE_MM, draw_map, scale_bar
from geoseg.formats.sheet.page_text import Page
from geoseg.formats.sheet.panel import panel
from geoseg.georeference import Georeference
from geoseg.scenes.files.muting import muted

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SheetReport", "scale_bar", "write_sheet"]

PNG_DPI = 200


@dataclass(frozen=True, slots=True)
class SheetReport:
    """A report of what a sheet shows."""

    denominator: float | None
    """Its scale is one to so many; None without a CRS."""
    bar_m: float | None
    """Length of the scale bar, metres."""
    north: float | None
    """Degrees from up to true north, clockwise."""
    features: int
    """How many lie on it."""
    dots: int
    """How many of them are dots, as they are too small or too many."""


def write_sheet(
    paths: Sequence[Path],
    sheet: Sheet,
    georeference: Georeference,
    box: tuple[float, float, float, float],
    *,
    batches: Iterable[pa.RecordBatch] = (),
    picture: Picture | None = None,
    outlines: Sequence[Outline] = (),
) -> SheetReport:
    """Write a map sheet.

    Args:
        paths: Files to write: ``.pdf`` and ``.png``.
        sheet: What is written on it.
        georeference: Of the raster that was mapped; the map lies as its rows and columns do.
        box: What is shown: first row, first column, last row, last column of the raster; fractions are fine.
        batches: Features with ``code`` and ``geometry`` (WKB in the CRS of the raster), read once.
        picture: What lies under them.
        outlines: Areas drawn as lines.

    Raises:
        ConfigError: matplotlib is not installed, a file has another ending, or the date is none.
        GeoreferenceError: The box is empty or has no place on Earth.
    """
    odd = [path for path in paths if path.suffix.lower() not in (".pdf", ".png")]
    if odd:
        raise ConfigError(f"{odd[0]}: a map sheet is a .pdf or a .png file; choose one of these endings")
    try:
        produced = datetime.fromisoformat(sheet.produced)
    except ValueError as error:
        raise ConfigError(f"date of production {sheet.produced!r} is no date; write for example 2024-05-31") from error
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a map sheet is drawn by matplotlib, which is not installed; pip install 'geoseg[sheets]'") from error
    frame = MapFrame.fit(georeference, box, FRAME_MM[2:])
    # Neither the user's settings nor the environment change the page.
    # One line of the log names all letters that are in no font.
    with mpl.rc_context(), muted(message="Glyph"):
        _set(sheet, outlines)
        figure = Figure(figsize=(PAGE_MM[0] / 25.4, PAGE_MM[1] / 25.4), facecolor="white")
        page = Page(figure, PAGE_MM)
        features, dots, bar = draw_map(figure, page, frame, sheet, batches, picture, outlines)
        panel(page, sheet, frame, outlines, features=features, dots=dots)
        band(page, sheet)
        for path in paths:
            _save(figure, path, sheet, produced)
            if path.suffix.lower() == ".pdf":
                path.write_bytes(georeferenced(path.read_bytes(), frame, FRAME_MM[:2]))
    return SheetReport(frame.denominator, bar, frame.north, features, dots)


def _set(sheet: Sheet, outlines: Sequence[Outline]) -> None:
    """Set what matplotlib is to draw a page by, and nothing else."""
    import matplotlib as mpl

    mpl.rcdefaults()
    mpl.rcParams.update(
        {
            "font.family": families(_texts(sheet, outlines)),
            "text.parse_math": False,
            "pdf.fonttype": 42,
            "pdf.compression": 6,
            "hatch.linewidth": 0.35,
            "hatch.color": "#555555",
        }
    )


def _texts(sheet: Sheet, outlines: Sequence[Outline]) -> list[str]:
    """All that a sheet is told to write."""
    cells = [cell for row in sheet.table for cell in row]
    names = [*(entry.name for entry in sheet.legend), *(outline.name for outline in outlines)]
    return [
        sheet.title,
        sheet.subtitle,
        sheet.producer,
        sheet.disclaimer,
        sheet.licence,
        sheet.code,
        sheet.edition,
        *(name for name, _ in sheet.around.places),
        sheet.contact,
        *sheet.quality,
        *sheet.sources,
        *cells,
        *names,
    ]


def _save(figure: Any, path: Path, sheet: Sheet, produced: datetime) -> None:
    when = produced if produced.tzinfo is not None else produced.replace(tzinfo=UTC)
    if path.suffix.lower() == ".png":
        figure.savefig(path, format="png", dpi=PNG_DPI, metadata={"Software": "geoseg", "Title": sheet.title})
        return
    facts = {"Title": sheet.title, "Subject": sheet.subtitle, "Creator": "geoseg", "Author": sheet.producer, "CreationDate": when}
    figure.savefig(path, format="pdf", dpi=PNG_DPI, metadata={key: value for key, value in facts.items() if value})
