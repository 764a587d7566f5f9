"""``report.html`` of graded buildings: how many of which class, how sure, what to mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geoseg.codes import UNGRADED
from geoseg.damage.scale import CLASSES, STYLES
from geoseg.dialect import number_of
from geoseg.formats.page.amounts import percent, share_of
from geoseg.formats.page.elements import Cell, Entry, Facts, Histogram, Notes, Page, Pictures, Row, Section, Table, Words
from geoseg.formats.page.minding import ranked
from geoseg.models.model_folder import Model
from geoseg.scenes.remote import shown
from pipeline.config.sections import Settings
from pipeline.damage.document import DamageDocument, GradedBuilding
from pipeline.files.version import code_version
from pipeline.publish.model_facts import model_section
from pipeline.publish.run_facts import dates_section, file_links, settings_facts

__all__ = ["damage_page"]

MOST_ZONES = 500
STEP = 10
"""Percent to a bar of the histogram."""


def damage_page(
    name: str,
    document: DamageDocument,
    graded: Sequence[GradedBuilding],
    pictures: Pictures | None,
    model: Model,
    settings: Settings,
    names: Sequence[str],
) -> Page:
    """The page as values.

    Args:
        name: Of the place.
        document: The summary.
        graded: The buildings.
        pictures: See ``damage_pictures``.
        model: The model.
        settings: Of the run.
        names: Files beside the page.
    """
    notes = ranked(document["warnings"])
    counts, analysed = document["counts"], sum(document["counts"][title] or 0 for title in CLASSES)
    sections = [
        *([Section("What to mind", (Notes(notes),))] if notes else []),
        *([Section("The map", (pictures,))] if pictures is not None else []),
        _classes(document, analysed),
        *_zones(document.get("zones", ())),
        *_event_model(document),
        *_how_sure(graded),
        *_coverage(document),
        dates_section(document["dates"], document["registration"]),
        model_section(model.card, model.sha256, (Path(model.path),)),
        Section("The run", (Facts((Entry("Footprints", _footprints(document)),)), *settings_facts(settings))),
        Section("Files", (file_links(names),)),
    ]
    share = counts["share_destroyed"]
    return Page(
        title=name,
        kind="Damage of buildings",
        lead=(
            Entry("Buildings", f"{document['buildings']:,}"),
            *(Entry(title.capitalize(), f"{counts[title]:,}") for title in reversed(CLASSES)),
            Entry("Share destroyed", percent(share)),
            Entry("Not analysed", f"{counts[UNGRADED]:,}", tone="warn" if counts[UNGRADED] else ""),
        ),
        sections=tuple(sections),
        footer=f"Made by geoseg {code_version()}.",
    )


def _classes(document: DamageDocument, analysed: float) -> Section:
    rows: list[Row] = []
    for style in STYLES:
        count = document["counts"][style.name] or 0
        share = None if style.name == UNGRADED else share_of(count, analysed)
        rows.append([Cell(style.name, color=style.color), f"{count:,}", Cell(percent(share), share=share)])
    table = Table.of("Buildings by class of the Joint Damage Scale", ("Class", "#Buildings", "#Share of the analysed"), rows)
    text = (
        f"Probabilities of all buildings add up to {document['destroyed_expected']:,.1f} destroyed ones; where that is far from "
        "the count, many are close to the border of two classes."
    )
    return Section("Buildings by class", (table, Words(text)))


def _zones(zones: Sequence[Mapping[str, object]]) -> tuple[Section, ...]:
    if not zones:
        return ()
    heads = list(zones[0])
    numeric = {*CLASSES, UNGRADED, "share_destroyed"}
    columns = [f"#{name.replace('_', ' ')}" if name in numeric else name for name in heads]
    rows: list[Row] = [[_cell(name, zone.get(name)) for name in heads] for zone in zones[:MOST_ZONES]]
    more = [Words(f"{MOST_ZONES} of {len(zones):,} zones; zones.csv has all.")] if len(zones) > MOST_ZONES else []
    return (Section("By zone", (Table.of("Buildings by zone and class", columns, rows), *more)),)


def _cell(name: str, value: object) -> Cell | str:
    if name == "share_destroyed" and isinstance(value, float | int | None):
        return Cell(percent(value), share=value)
    return "-" if value is None else str(value)


def _how_sure(graded: Sequence[GradedBuilding]) -> tuple[Section, ...]:
    values = np.array([one.confidence for one in graded if one.confidence is not None], np.float64)
    if not len(values):
        return ()
    counts = np.bincount(np.minimum(values // STEP, 100 // STEP - 1).astype(int), minlength=100 // STEP)
    bars = tuple((str(STEP * i), float(n / len(values))) for i, n in enumerate(counts))
    text = (
        f"Mean confidence is {values.mean():.1f} %; {percent(float((values < 50).mean()))} of the analysed buildings have less "
        "than 50 %. Confidence is the model's own probability of the class that was chosen."
    )
    caption = "Share of analysed buildings by confidence."
    return (Section("How sure", (Words(text), Histogram("Histogram of confidence", caption, "confidence, %", bars))),)


def _footprints(document: DamageDocument) -> str:
    """The footprints: a file, or where they were fetched from, with date and licence."""
    if (source := document.get("footprints_from")) is None:
        return shown(document["footprints"])
    name = source["source"] if source["addresses"] == [source["source"]] else f"{source['source']} ({source['addresses'][0]})"
    return f"{name}, {source['date'] or 'date not known'}, licence {source['licence'] or 'not stated'}"


def _event_model(document: DamageDocument) -> tuple[Section, ...]:
    """What the model of this event was learned from, and how right it is."""
    if (event := document.get("event_model")) is None:
        return ()
    following = Entry("To label next", f"{number_of(event['label_next'], 'building')} in label_next.gpkg")
    if not event["labels"]:
        text = "No building of this event is labelled yet: what is, a model of this event learns from."
        return (Section("A model of this event", (Words(text), Facts((following,)))),)
    by_class = ", ".join(f"{count} {name}" for name, count in event["by_class"].items())
    entries = [Entry("Labelled buildings", f"{event['labels']:,} ({by_class})")]
    if (found := event["cross_validated"]) is not None:
        low, high = found["macro_f1_95"] or (float("nan"), float("nan"))
        entries += [
            Entry(
                "Macro F1",
                f"{found['macro_f1']:.3f} ({low:.3f} to {high:.3f} at 95 %), of labels held out in {found['folds']} parts",
            ),
            Entry("Accuracy", f"{percent(found['accuracy'])} of the labels held out"),
        ]
        if found["prior_weight"] is not None:
            entries.append(
                Entry("Weight of the model that was given", f"{found['prior_weight']:.2f}; 1 is as it is, 0 not at all")
            )
    entries.append(following)
    text = (
        "The grades come from a model of this event alone, which knows its labels and an encoder that is left as it is; labelled "
        "buildings have the class of their label. It says nothing of other events."
    )
    return (Section("A model of this event", (Words(text), Facts(tuple(entries)))),)


def _coverage(document: DamageDocument) -> tuple[Section, ...]:
    if not document["not_analysed"]:
        return ()
    rows: list[Row] = [
        [reason, f"{count:,}"] for reason, count in sorted(document["not_analysed"].items(), key=lambda one: (-one[1], one[0]))
    ]
    return (Section("Not analysed", (Table.of("Buildings that were not graded, by reason", ("Reason", "#Buildings"), rows),)),)
