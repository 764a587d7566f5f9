"""The outcome of a scene, for people (``run.json``) and for the folder's index (``index.json``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from geoseg.codes import COVERAGE, HIDDEN, NODATA
from geoseg.dialect import number_of
from geoseg.digits import figure
from geoseg.documents import Json
from geoseg.formats.styles import ClassStyle
from geoseg.redaction import sanitized
from pipeline.files.index import IndexEntry
from pipeline.files.scene_record import ClassArea, SceneRecord
from pipeline.infer.receipt import Receipt
from pipeline.infer.value_sums import summed
from pipeline.plan.plan import Plan
from pipeline.publish.value_facts import clipped_notes

__all__ = ["SceneReport", "areas_by_class", "chunk_warnings", "class_areas", "failed_chunks", "hidden_facts"]

ISOLATED_SHARE = 0.01
"""More isolated nodata pixels than this share of the scene's nodata are a sign that nodata is a real value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneReport:
    """The entry of a scene in ``index.json``."""

    scene: str
    status: str
    """``done``, ``partial`` (some chunks are not analysed), ``failed`` or ``skipped``."""
    reason: str | None = None
    """Why it is not done."""
    outputs: tuple[str, ...] = ()
    """Files, relative to the index."""
    seconds: float = 0.0
    """Time spent on it now."""
    warnings: tuple[str, ...] = ()
    """What the user should know."""
    classes: tuple[ClassArea, ...] = ()
    """Pixels and area by class."""
    left_out: bool = False
    """Whether it is skipped because no pixel of it lies in the area of interest."""
    transient: bool = False
    """Whether what it failed by may pass, so that it can succeed later, unchanged."""

    def __post_init__(self) -> None:
        """Keep what may be told: reasons and warnings quote paths of strangers and words of libraries."""
        object.__setattr__(self, "scene", sanitized(self.scene))
        object.__setattr__(self, "reason", None if self.reason is None else sanitized(self.reason))
        object.__setattr__(self, "warnings", tuple(map(sanitized, self.warnings)))

    @classmethod
    def from_entry(cls, entry: IndexEntry) -> SceneReport:
        """The report that an entry was made of; without the classes, which it does not have.

        One that is skipped and has no outputs was left out: it lies outside of the area of interest.
        """
        return cls(
            scene=entry["scene"],
            status=entry["status"],
            reason=entry["reason"],
            seconds=entry["seconds"],
            outputs=tuple(entry["outputs"]),
            warnings=tuple(entry["warnings"]),
            left_out=entry["status"] == "skipped" and not entry["outputs"],
            transient=entry.get("transient") is True,
        )

    @classmethod
    def of_run(cls, record: SceneRecord) -> SceneReport:
        """The report that follows from ``run.json``; the outputs are relative to its folder."""
        return cls(
            scene=record.scene,
            status=record.status,
            reason=record.reason,
            outputs=record.outputs,
            warnings=record.warnings,
            classes=record.classes,
        )

    def entry(self) -> IndexEntry:
        """The entry as JSON."""
        entry: IndexEntry = {
            "scene": self.scene,
            "status": self.status,
            "reason": self.reason,
            "outputs": list(self.outputs),
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }
        return entry | {"transient": True} if self.transient else entry


def areas_by_class(plan: Plan, parts: Iterable[tuple[Mapping[str, int], Mapping[str, float]]]) -> tuple[dict[str, Json], ...]:
    """Pixels and geodesic area of every class, of *not analysed* and of no data; what lies outside of an area does not count.

    Args:
        plan: The scene's plan.
        parts: Pixels and square metres by code, of each chunk or of a map; summed in their order.
    """
    inside = plan.grid.scene.pixels if plan.area is None else plan.area.pixels
    return class_areas(plan.styles, parts, inside, placed=plan.scene.georeference.crs is not None)


def class_areas(
    styles: Iterable[ClassStyle], parts: Iterable[tuple[Mapping[str, int], Mapping[str, float]]], inside: int, *, placed: bool
) -> tuple[dict[str, Json], ...]:
    """Pixels and geodesic area of every class, of *not analysed* and of no data.

    Args:
        styles: The classes.
        parts: Pixels and square metres by code, of each part of a map; summed in their order.
        inside: Pixels of all of it; what is not counted holds no data.
        placed: Whether it has a place on Earth.
    """
    names = {style.code: style.name for style in styles} | {NODATA: "no data"}
    pixels = dict.fromkeys(names, 0)
    area = dict.fromkeys(names, 0.0)
    for part_pixels, part_area in parts:
        for code, count in part_pixels.items():
            pixels[int(code)] += count
        for code, square_metres in part_area.items():
            area[int(code)] += square_metres
    pixels[NODATA] = inside - sum(n for code, n in pixels.items() if code != NODATA)
    # The area of no data is not known where chunks without data were skipped, nor does anybody ask for it.
    return tuple(
        {
            "code": code,
            "name": name,
            "pixels": pixels[code],
            "area_m2": figure(area[code], 2) if placed and code != NODATA else None,
        }
        for code, name in names.items()
    )


def failed_chunks(plan: Plan, receipts: Iterable[Receipt]) -> list[dict[str, Json]]:
    """The chunks that are not analysed: where they are, and why."""
    return [
        {"chunk": receipt.index, "reason": receipt.reason, "window": _window(plan, receipt.index)}
        for receipt in receipts
        if receipt.status != "done"
    ]


def _window(plan: Plan, index: int) -> dict[str, int]:
    core = plan.grid.chunk_core(index)
    return {"row_off": core.row_off, "col_off": core.col_off, "height": core.height, "width": core.width}


def hidden_facts(plan: Plan, receipts: Collection[Receipt]) -> dict[str, Json] | None:
    """Pixels that clouds hide, and their share of those that hold data; None where nothing was said to hide any."""
    if not (sources := _cloud_sources(plan)):
        return None
    hidden, data = _hidden_of_data(receipts)
    return {"source": sources, "reason": COVERAGE[HIDDEN], "pixels": hidden, "share": figure(hidden / max(1, data), 6)}


def _cloud_sources(plan: Plan) -> list[str]:
    return list(dict.fromkeys(clouds.name for clouds in plan.scene.every_clouds))


def _hidden_of_data(receipts: Collection[Receipt]) -> tuple[int, int]:
    """Pixels that clouds hide, and all that hold data."""
    data = sum(count for receipt in receipts for code, count in receipt.pixels.items() if int(code) != NODATA)
    return sum(receipt.hidden_pixels for receipt in receipts), data


def hidden_notes(plan: Plan, receipts: Collection[Receipt]) -> list[str]:
    """What is to be said of clouds."""
    if not (sources := "; ".join(_cloud_sources(plan))):
        return []
    hidden, data = _hidden_of_data(receipts)
    if 0 < hidden == data:
        return [f"clouds hide all that holds data ({sources}): nothing was analysed"]
    return [f"clouds hide {hidden:,} pixels, {hidden / max(1, data):.1%} of those with data, which are not analysed ({sources})"]


def chunk_warnings(plan: Plan, receipts: Collection[Receipt], counted: Mapping[str, int] | None = None) -> list[str]:
    """Warnings that follow from the pixels.

    Args:
        plan: The scene's plan.
        receipts: Of the chunks.
        counted: Pixels by code of the map, where it has other classes than the chunks: objects are painted over them.
    """
    notes = list(dict.fromkeys(note for receipt in receipts for note in receipt.notes))
    isolated = sum(receipt.isolated for receipt in receipts)
    empty = sum(receipt.pixels.get(str(NODATA), 0) for receipt in receipts)
    if empty and isolated > ISOLATED_SHARE * empty and isolated > 16:
        notes.append(
            f"{isolated:,} of {empty:,} pixels without data stand alone among pixels with data: "
            "the nodata value may be a real value; if it is, use --ignore-nodata"
        )
    bad = {receipt.index: receipt.bad_pixels for receipt in receipts if receipt.status == "done" and receipt.bad_pixels}
    if bad:
        places = ", ".join(
            f"rows {w['row_off']}..{w['row_off'] + w['height']} cols {w['col_off']}..{w['col_off'] + w['width']}"
            for w in (_window(plan, i) for i in list(bad)[:5])
        )
        why = "are hidden, or without data at a date," if plan.scene.dates else "could not be read"
        notes.append(
            f"{sum(bad.values()):,} pixels {why} and are not analysed, in {number_of(len(bad), 'chunk')} ({places}); coverage "
            "has their outlines"
        )
    notes += hidden_notes(plan, receipts)
    if plan.quantity is not None:
        notes += clipped_notes(plan.quantity, summed(receipt.values for receipt in receipts))
    if counted is None:
        counted = {}
        for receipt in receipts:
            counted = {code: counted.get(code, 0) + receipt.pixels.get(code, 0) for code in {*counted, *receipt.pixels}}
    valid = sum(n for code, n in counted.items() if int(code) != NODATA)
    if not valid:
        notes.append("no valid pixels: the outputs are empty")
        return notes
    analysed = valid - sum(receipt.hidden_pixels for receipt in receipts)
    only = next((c for c in plan.card.classes if 0 < counted.get(str(c.value), 0) == analysed), None)
    if only is not None and len(plan.card.classes) > 1:
        check = "check that the image is like those that the model was trained on"
        objects = plan.task != "semantic" and only.value not in plan.card.object_classes
        notes.append(f"no object was found: {check}" if objects else f"every pixel is {only.name}: {check}")
    return notes
