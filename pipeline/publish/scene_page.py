"""``report.html`` of a map: what was mapped, how sure it is, what to mind; of ``run.json`` and what lies beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from geoseg.codes import HIDDEN, NODATA, NOT_ANALYSED
from geoseg.dialect import number_of
from geoseg.documents import Json
from geoseg.formats.page.amounts import area_text, percent, seconds_text, share_of
from geoseg.formats.page.elements import (
    Cell,
    Entry,
    Facts,
    Notes,
    Page,
    Picture,
    Pictures,
    Row,
    ScaleBar,
    Section,
    Swatch,
    Table,
    Words,
)
from geoseg.formats.page.embedding import scale_bar
from geoseg.formats.page.minding import ranked
from geoseg.formats.page.rendering import render
from geoseg.formats.styles import NOT_ANALYSED_COLOR
from geoseg.georeference import Georeference
from geoseg.models.card import Card
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.windows import Window
from pipeline.files.maps import VALUES
from pipeline.files.run_folder import REPORT
from pipeline.files.scene_record import ClassArea
from pipeline.publish.model_facts import model_section
from pipeline.publish.run_facts import PAGE, SceneFacts, file_links, settings_facts
from pipeline.publish.sureness import Sureness, measure_sureness, sureness_section
from pipeline.publish.value_page import value_lead, value_legend, value_sections

__all__ = ["scene_page", "write_scene_page"]

MEANING = (
    "Confidence is the model's own probability of the class it chose: it says nothing of images unlike those that the model "
    "learned from."
)
"""What the confidence of a map is."""


def write_scene_page(
    folder: Path,
    document: Mapping[str, Json],
    card: Card,
    pictures: Sequence[Picture],
    sections: Sequence[Section] = (),
    *,
    where: Path | None = None,
    names: Collection[str] | None = None,
    columns: int | None = None,
) -> None:
    """Write the page of a map.

    Args:
        folder: Where the page goes.
        document: ``run.json`` but for its files.
        card: Of the model.
        pictures: See ``pipeline.publish.run.draw_preview``.
        sections: What those say who made more of the map.
        where: Where the map lies, if elsewhere.
        names: The files beside the page; those of the folder if not given.
        columns: Columns of the map that the pictures show; all of them if not given and none was left out.
    """
    found = {path.name for path in folder.iterdir()} if names is None else set(names)
    sureness = measure_sureness(where or folder)
    facts = SceneFacts.model_validate(dict(document))
    legend: tuple[Swatch, ...] = ()
    if facts.values is not None:
        raster = (where or folder) / VALUES
        sections, legend = (*value_sections(facts.values, raster), *sections), value_legend(facts.values, raster)
    shown = Pictures(
        tuple(pictures), legend, scale=_scale(where or folder, columns, whole="area" not in document), swipe=_dated(pictures)
    )
    page = scene_page(facts, card, shown, sureness, sorted({*found, REPORT} - {PAGE}), sections)
    (folder / PAGE).write_text(render(page), encoding="utf-8")


def scene_page(
    facts: SceneFacts,
    card: Card,
    pictures: Pictures,
    sureness: Sureness | None,
    names: Iterable[str],
    sections: Sequence[Section] = (),
) -> Page:
    """The page of a map as values."""
    colors = {entry.value: entry.color for entry in card.classes}
    total = sum(one.pixels for one in facts.analysed)
    notes = ranked([*([facts.reason] if facts.reason else []), *facts.warnings])
    parts = [
        *([Section("What to mind", (Notes(notes),))] if notes else []),
        _map_section(facts, colors, pictures),
        *([] if facts.values is not None else [_areas(facts, colors, sureness, total)]),
        *sections,
        *([] if facts.values is not None else [sureness_section(sureness, MEANING)]),
        _coverage(facts),
        model_section(
            card,
            facts.model.sha256,
            tuple(Path(member.path) for member in facts.model.members),
            str(facts.plan["domain"]) if "domain" in facts.plan else None,
        ),
        _run_section(facts),
        Section("Files", (file_links(names),)),
    ]
    return Page(
        title=facts.scene,
        kind="Map by class" if facts.values is None else f"Map of {facts.values.quantity.title}",
        lead=_lead(facts, sureness, total, len(notes)),
        sections=tuple(parts),
        status=Entry("Partly done", facts.reason or "", tone="bad") if facts.status == "partial" else None,
        footer=f"Made by geoseg {facts.geoseg}{f', {facts.finished}' if facts.finished else ''}.",
    )


def _lead(facts: SceneFacts, sureness: Sureness | None, total: int, notes: int) -> tuple[Entry, ...]:
    everything = sum(one.pixels for one in facts.classes)
    areas = [one.area_m2 for one in facts.analysed if one.area_m2 is not None]
    changed = [one for one in facts.analysed if str(one.code) in facts.changes][:3]
    largest = changed or sorted((one for one in facts.analysed if one.pixels), key=lambda one: -one.pixels)[:3]
    share = share_of(total, sum(one.pixels for one in facts.classes if one.code != NODATA))
    found = [
        *(
            Entry(one.name, area_text(one.area_m2) if changed and areas else percent(share_of(one.pixels, total)))
            for one in largest
        ),
        Entry("Mean confidence", "-" if sureness is None else f"{sureness.mean:.0f} %"),
    ]
    return (
        Entry("Analysed", area_text(sum(areas)) if areas else f"{total:,} pixels"),
        *(found if facts.values is None else value_lead(facts.values)),
        Entry(
            "Data analysed",
            percent(share),
            tone="" if share is None or share > 0.99 else ("warn" if share > 0.5 else "bad"),
        ),
        *([Entry("Polygons", f"{facts.features:,}")] if facts.values is None else []),
        Entry("To mind", str(notes) if notes else "nothing", tone="warn" if notes else ""),
        *([] if everything else [Entry("Pixels", "0", tone="bad")]),
    )


def _dated(pictures: Sequence[Picture]) -> bool:
    """Whether the first two pictures are those of two dates."""
    return len(pictures) > 2 and pictures[0].caption.startswith("Before")


def _scale(folder: Path, columns: int | None, *, whole: bool) -> ScaleBar | None:
    """The scale bar of a picture of so many columns: a row of pixels may be another length than a column."""
    if columns is None and not whole:
        return None
    with gdal_env(), open_written(folder / (VALUES if (folder / VALUES).is_file() else "classes.tif")) as raster:
        place = Georeference(tuple(raster.transform)[:6], None if raster.crs is None else raster.crs.to_wkt())
        window = Window.of((raster.height, raster.width))
    sides = place.pixel_sides(window)
    return scale_bar(columns or window.width, None if sides is None else sides[1])


def _map_section(facts: SceneFacts, colors: Mapping[int, str], pictures: Pictures) -> Section:
    legend = tuple(Swatch(colors.get(one.code, NOT_ANALYSED_COLOR), one.name) for one in facts.classes if one.code != NODATA)
    return Section("The map", (replace(pictures, legend=pictures.legend or legend),))


def _areas(facts: SceneFacts, colors: Mapping[int, str], sureness: Sureness | None, total: int) -> Section:
    sure = {} if sureness is None else sureness.by_class
    rows: list[Row] = []
    for one in facts.analysed:
        share = share_of(one.pixels, total)
        rows.append(
            [
                Cell(one.name, color=colors.get(one.code, NOT_ANALYSED_COLOR)),
                area_text(one.area_m2),
                Cell(percent(share), share=share),
                f"{one.pixels:,}",
                f"{sure[one.code]:.0f} %" if one.code in sure else "-",
            ]
        )
    caption = "Geodesic areas as mapped; a sample of references corrects them (geoseg sample, geoseg area)"
    table = Table.of(caption, ("Class", "#Area", "#Share of the analysed", "#Pixels", "#Mean confidence"), rows)
    return Section("Areas by class", (table,))


def _coverage(facts: SceneFacts) -> Section:
    whole, analysed = sum(one.pixels for one in facts.classes), facts.analysed
    areas = [one.area_m2 for one in analysed if one.area_m2 is not None]
    known = ClassArea(code=0, name="analysed", pixels=sum(one.pixels for one in analysed), area_m2=sum(areas) if areas else None)
    unknown = [one for one in facts.classes if one.code >= NOT_ANALYSED]
    if facts.clouds is not None:
        place = next((i for i, one in enumerate(unknown, 1) if one.code == NOT_ANALYSED), 0)
        unknown.insert(place, ClassArea(code=HIDDEN, name="of it hidden by clouds", pixels=facts.clouds.pixels))
    rows: list[Row] = [
        [
            one.name,
            area_text(one.area_m2),
            Cell(percent(share_of(one.pixels, whole)), share=share_of(one.pixels, whole)),
            f"{one.pixels:,}",
        ]
        for one in (known, *unknown)
    ]
    table = Table.of("All pixels of the scene", ("What", "#Area", "#Share", "#Pixels"), rows)
    chunks = facts.chunks
    found = f"{number_of(chunks.total, 'chunk')}, {chunks.empty:,} of them without data, {chunks.failed:,} not analysed"
    text = f"{found}; {number_of(chunks.tiles, 'tile')}."
    return Section("Coverage", (table, Words(text)))


def _run_section(facts: SceneFacts) -> Section:
    total = sum(facts.seconds.values())
    times = Table.of(
        "Time by stage; stages may run at once",
        ("Stage", "#Time", "#Share"),
        [
            [name, seconds_text(value), Cell(percent(share_of(value, total)), share=share_of(value, total))]
            for name, value in facts.seconds.items()
        ],
    )
    product = facts.product if isinstance(facts.product, str | None) else str(facts.product.get("name", facts.product))
    entries = [
        *(Entry("Source", source) for source in facts.source),
        Entry("Acquired", facts.acquired or "not known"),
        *([Entry("Product", product)] if product else []),
        *(Entry(name.capitalize(), str(value)) for name, value in facts.plan.items() if name not in ("scene", "domain")),
    ]
    return Section("The run", (Facts(tuple(entries)), times, *settings_facts(facts.config)))
