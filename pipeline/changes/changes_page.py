"""What the page of a map of changes says beside the map: loss and gain by interval, rates, zones, how the dates fit."""

from __future__ import annotations

from collections.abc import Mapping

from geoseg.formats.page.elements import Row, Section, Table, Words
from pipeline.changes.document import ChangesDocument
from pipeline.changes.rates import Change
from pipeline.publish.run_facts import dates_section

__all__ = ["changes_sections"]

MOST_ZONES = 500
"""Zones in the page; the files have all."""


def changes_sections(document: ChangesDocument, changes: Mapping[str, Change]) -> tuple[Section, ...]:
    """Sections for the page of a map.

    Args:
        document: The summary.
        changes: By class code as text, what it changes from and to; see ``MappedScene``.
    """
    of = next((change["before"] for change in changes.values()), "the class")
    parts = [_intervals(document, of), _zones(document), dates_section(document["dates"], document["registration"])]
    return tuple(part for part in parts if part is not None)


def _intervals(document: ChangesDocument, of: str) -> Section | None:
    intervals = document.get("intervals")
    if not intervals:
        return None
    rows: list[Row] = [
        [
            f"{step['since']} to {step['until']}",
            _number(step["years"], 2),
            _hectares(step["first_loss_ha"]),
            _hectares(step["first_gain_ha"]),
            _hectares(step["never_lost_before_ha"]),
            _hectares(step["loss_ha_per_year"]),
            "-" if step["annual_rate_percent"] is None else f"{step['annual_rate_percent']:.2f} %",
        ]
        for step in intervals
    ]
    heads = ("Interval", "#Years", "#Loss", "#Gain", "#There at its begin", "#Loss a year", "#Annual rate")
    table = Table.of(f"Loss and gain of {of} by interval", heads, rows)
    note = "The annual rate is that of compound interest (Puyravaud 2003). Areas are as mapped."
    return Section("Loss and gain", (table, Words(note)))


def _zones(document: ChangesDocument) -> Section | None:
    zones = document.get("zones")
    if not zones:
        return None
    there = {name for zone in zones for name in zone["area_ha"]}
    names = [entry["name"] for entry in document["classes"] if entry["name"] in there]
    rows: list[Row] = [
        [f"Zone {zone['zone']}", *(_hectares(zone["area_ha"].get(name)) for name in names)] for zone in zones[:MOST_ZONES]
    ]
    table = Table.of("Area by zone and class", ("Zone", *(f"#{name}" for name in names)), rows)
    more = [Words(f"{MOST_ZONES} of {len(zones)} zones; zones.csv has all.")] if len(zones) > MOST_ZONES else []
    return Section("By zone", (table, *more))


def _hectares(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ha"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
