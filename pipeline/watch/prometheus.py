"""A watch's status in the text format of Prometheus, for the textfile collector of its node exporter or any scraper.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.watch.status_document import StatusDocument

__all__ = ["HEADER", "exposition"]

HEADER = "# geoseg watch"
"""How the file begins."""
Samples = list[tuple[Mapping[str, str], float | None]]


def exposition(status: StatusDocument) -> str:
    """The text for a status, as ``status.json`` holds it; what is not known has no sample."""
    scan, scenes = status["scan"], status["scenes"]
    result = scan["result"]
    families: list[tuple[str, str, str, Samples]] = [
        ("info", "gauge", "The geoseg that watches.", [({"version": status["geoseg"]}, 1.0)]),
        ("updated_timestamp_seconds", "gauge", "When this was written.", [({}, status["updated_at"])]),
        ("scenes", "gauge", "Scenes by state.", [({"state": name}, float(count)) for name, count in scenes.items()]),
        (
            "scenes_mapped_total",
            "counter",
            "Scenes that were mapped since the first scan.",
            [({}, status["scenes_mapped_total"])],
        ),
        (
            "stage_seconds_total",
            "counter",
            "Time by stage of the scenes that were mapped.",
            [({"stage": name}, value) for name, value in status["seconds_by_stage"].items()],
        ),
        (
            "last_good_scan_timestamp_seconds",
            "gauge",
            "End of the last scan that went through.",
            [({}, status["last_good_scan_at"])],
        ),
        ("last_scan_duration_seconds", "gauge", "Time that the last scan took.", [({}, scan["seconds"])]),
        (
            "last_scan_success",
            "gauge",
            "Whether the last scan went through and all sources answered.",
            [({}, None if result is None else float(result == "done"))],
        ),
        ("sources_away", "gauge", "Sources that did not answer at the last look.", [({}, float(len(status["away"])))]),
        ("disk_free_bytes", "gauge", "Free space where the maps are written.", [({}, status["disk"]["free_bytes"])]),
    ]
    lines = [HEADER]
    for name, kind, text, samples in families:
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            full = f"geoseg_watch_{name}"
            lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
            lines += [f"{full}{_labels(labels)} {_number(value)}" for labels, value in known]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return repr(int(value)) if float(value).is_integer() else repr(float(value))
