"""``index.html`` of an output folder: every scene with a small picture and its status, failures first, and sums by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.codes import NOT_ANALYSED
from geoseg.dialect import number_of
from geoseg.errors import SceneError
from geoseg.formats.page.amounts import area_text, percent, share_of
from geoseg.formats.page.elements import Cell, Entry, Link, Links, Minded, Notes, Page, Picture, Row, Section, Table, Words
from geoseg.formats.page.embedding import photo
from geoseg.formats.page.minding import ranked
from geoseg.formats.page.rendering import render
from pipeline.files.index import COLLECTION, INDEX, IndexEntry, write_page
from pipeline.files.owned import PAGE_DIGEST, UNSEALED
from pipeline.files.scene_record import ClassArea, SceneRecord
from pipeline.files.version import code_version
from pipeline.publish.run_facts import PAGE
from pipeline.publish.small_pictures import MOST_KEPT, SIDE, small_picture

__all__ = ["folder_page", "write_folder_page"]

MOST_ROWS = 3000
MOST_PICTURES = MOST_KEPT
MOST_SUMMED = 5000
"""Scenes whose records are read; the page of more of them has no sums."""
PICTURE_BYTES = 12_000
ORDER = {"failed": 0, "partial": 1, "skipped": 2, "done": 3}
TONES = {"failed": "bad", "partial": "bad", "skipped": "warn", "done": "good"}
NOTES = 20


@dataclass(frozen=True, slots=True)
class _Listed:
    """A scene as the page lists it."""

    entry: IndexEntry
    record: SceneRecord | None

    @property
    def name(self) -> str:
        return self.entry["scene"]

    @property
    def status(self) -> str:
        """How it stands: a scene that an earlier run has finished is done."""
        status = self.entry.get("status", "")
        return self.record.status if status == "skipped" and self.record is not None and self.record.status else status

    @property
    def classes(self) -> Sequence[ClassArea]:
        return () if self.record is None else self.record.classes


def write_folder_page(out: Path, entries: Iterable[IndexEntry], warnings: Sequence[str] = (), more: Sequence[Link] = ()) -> None:
    """Write ``index.html``.

    Args:
        out: The output folder.
        entries: Of its scenes.
        warnings: On all of them together.
        more: Files of all of them together.

    Raises:
        OutputError: It can't be written.
    """
    write_page(out, render(folder_page(out, list(entries), warnings, more)))


def folder_page(out: Path, entries: Sequence[IndexEntry], warnings: Sequence[str] = (), more: Sequence[Link] = ()) -> Page:
    """The page as values; see ``write_folder_page``."""
    summed = len(entries) <= MOST_SUMMED
    listed = [
        _Listed(entry, SceneRecord.read(out / entry["scene"]) if summed and entry.get("outputs") else None) for entry in entries
    ]
    listed.sort(key=lambda one: (ORDER.get(one.status, 0), one.name))
    notes = ranked([*warnings, *(text for one in listed for text in one.entry.get("warnings", ()))])
    counts = {status: sum(one.status == status for one in listed) for status in ORDER}
    collection = [Link(COLLECTION, "STAC collection of the maps")] if (out / COLLECTION).is_file() else []
    sections = [
        *([Section("What to mind", (Notes(_failures(listed) + notes[:NOTES]),))] if notes or counts["failed"] else []),
        _totals(listed, summed=summed),
        _scenes(out, listed),
        Section("Files", (Links((Link(INDEX, "this list, for programs"), *collection, *more)),)),
    ]
    return Page(
        title=out.resolve().name or "Maps",
        kind="Output folder",
        lead=(
            Entry("Scenes", f"{len(listed):,}"),
            Entry("Done", f"{counts['done']:,}"),
            Entry("Failed", f"{counts['failed']:,}", tone="bad" if counts["failed"] else ""),
            Entry("Partly done", f"{counts['partial']:,}", tone="bad" if counts["partial"] else ""),
            Entry("Skipped", f"{counts['skipped']:,}", tone="warn" if counts["skipped"] else ""),
            Entry("To mind", str(len(notes)) if notes else "nothing", tone="warn" if notes else ""),
        ),
        sections=tuple(sections),
        footer=f"Made by geoseg {code_version()}.",
        metadata={PAGE_DIGEST: UNSEALED},
    )


def _failures(listed: Sequence[_Listed]) -> tuple[Minded, ...]:
    """Reasons of failures, counted."""
    reasons = [str(one.entry.get("reason") or "") for one in listed if one.status == "failed"]
    return tuple(Minded(f"Failed: {one.text}", one.count, "bad") for one in ranked(reasons)[:NOTES])


def _totals(listed: Sequence[_Listed], *, summed: bool) -> Section:
    title = "All scenes by class"
    if not summed:
        return Section(title, (Words(f"More than {MOST_SUMMED:,} scenes are not summed up here; geoseg deliver does it."),))
    areas: dict[tuple[int, str], tuple[int, float, bool]] = {}
    for one in listed:
        for entry in one.classes:
            pixels, area, known = areas.get((entry.code, entry.name), (0, 0.0, True))
            known = known and (entry.area_m2 is not None or not entry.pixels)
            areas[(entry.code, entry.name)] = (pixels + entry.pixels, area + (entry.area_m2 or 0.0), known)
    whole = sum(pixels for pixels, _, _ in areas.values())
    rows: list[Row] = [
        [
            name,
            area_text(area if known else None),
            Cell(percent(share_of(pixels, whole)), share=share_of(pixels, whole)),
            f"{pixels:,}",
        ]
        for (_, name), (pixels, area, known) in sorted(areas.items())
    ]
    mapped = sum(one.record is not None for one in listed)
    caption = f"Sums over {number_of(mapped, 'scene')} with a map; ground that several scenes show counts as often"
    return Section(title, (Table.of(caption, ("Class", "#Area", "#Share of all pixels", "#Pixels"), rows),))


def _scenes(out: Path, listed: Sequence[_Listed]) -> Section:
    rows: list[Row] = []
    pictures = 0
    for one in listed[:MOST_ROWS]:
        picture = (
            _picture(out / one.name / "preview.png", one.name) if pictures < MOST_PICTURES and one.entry.get("outputs") else None
        )
        pictures += picture is not None
        page = f"{one.name}/{PAGE}"
        reason = one.entry.get("reason") if one.status != "done" else None
        rows.append(
            [
                Cell(one.name, href=page if (out / page).is_file() else "", picture=picture),
                Cell(one.status, tone=TONES.get(one.status, "")),
                _analysed(one.classes),
                "-" if one.record is None else f"{one.record.features:,}",
                reason or _minded(one.entry.get("warnings", ())),
            ]
        )
    table = Table.of("Scenes, failures first", ("Scene", "Status", "#Analysed", "#Polygons", "What to mind"), rows)
    left = len(listed) - MOST_ROWS
    more = [Words(f"{left:,} more scenes are in {INDEX}.")] if left > 0 else []
    return Section("Scenes", (table, *more))


def _analysed(classes: Sequence[ClassArea]) -> str:
    known = [entry.area_m2 for entry in classes if entry.code < NOT_ANALYSED and entry.area_m2 is not None]
    return area_text(sum(known)) if known else "-"


def _minded(warnings: Sequence[str]) -> str:
    notes = ranked(warnings)
    return "" if not notes else notes[0].text + (f" (and {len(notes) - 1} more)" if len(notes) > 1 else "")


def _picture(path: Path, name: str) -> Picture | None:
    try:
        pixels = small_picture(path)
    except (SceneError, OSError, ValueError):
        # Somebody may have changed or removed it.
        return None
    return photo(pixels, f"Image, classes and polygons of {name}", side=SIDE, most=PICTURE_BYTES)
