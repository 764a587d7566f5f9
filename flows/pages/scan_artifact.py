"""The page of a scan: which scenes need somebody, which are tried again, and what was mapped."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from pathlib import Path

from prefect.artifacts import Artifact, create_markdown_artifact

from flows.pages.page_links import file_address, link, markdown_table, markdown_text, page_key
from geoseg.addresses import unsigned
from geoseg.dialect import number_of
from geoseg.formats.page.amounts import seconds_text
from pipeline.files.index import INDEX_PAGE
from pipeline.publish.report import SceneReport
from pipeline.publish.run_facts import PAGE
from pipeline.watch.looking import Away
from pipeline.watch.scan import Scan
from pipeline.watch.upkeep import Listed, list_scenes

__all__ = ["UNFINISHED", "scan_name", "show_scan"]

UNFINISHED = "Unfinished"
"""Name of the state of a scan in which scenes failed, or a source was away; all else is done."""

NEED, AGAIN = ("quarantined", "failed", "partial"), ("waiting",)
"""States of scenes that somebody is to look at, and of those that may well mend themselves."""
MOST_ROWS = 200


def scan_name(sources: Sequence[str]) -> str:
    """The name of a scan: what it looks at."""
    if not sources:
        return "scan"
    first = unsigned(sources[0]).rstrip("/")
    # An address by its last part alone would say little: prefixes and collections are called alike everywhere.
    name = first if "://" in first else Path(first).name or first
    return name + (f" and {len(sources) - 1} more" if len(sources) > 1 else "")


def show_scan(scan: Scan, sources: Sequence[str], reports: Sequence[SceneReport]) -> None:
    """Show a scan that has ended on the page of its output folder, if it says anything new.

    Args:
        scan: The scan.
        sources: What it looked at.
        reports: The scenes that were tried now.
    """
    work, out = scan.work, scan.out
    # What has gone from the sources needs nobody.
    there = {*work.quarantined, *work.delayed, *work.waiting, *(report.scene for report in reports)}
    listed = [scene for scene in list_scenes([out]) if scene.name in there]
    need = [scene for scene in listed if scene.status in NEED]
    need += [Listed(str(out), one.name, "refused", 0, None, one.reason) for one in scan.refused if one.status == "failed"]
    again = [scene for scene in listed if scene.status in AGAIN]
    key, text = page_key("scan", out), _markdown(out, need, again, reports, scan.away)
    if not reports:
        # A scan that finds nothing new each minute would bury what the others have told.
        earlier = Artifact.get(key)
        # In a flow that is not async it comes at once.
        assert not isinstance(earlier, Coroutine)
        if earlier is None and not (need or again or scan.away):
            return
        if earlier is not None and _standing(str(earlier.data)) == _standing(text):
            return
    create_markdown_artifact(text, key=key, description=f"{_headline(need)}: {scan_name(sources)}, into {out.resolve()}")


def _headline(need: Sequence[Listed]) -> str:
    if not need:
        return "No scene needs you"
    return f"{number_of(len(need), 'scene')} need{'s' if len(need) == 1 else ''} you"


LATEST = "## Tried in this scan"


def _standing(text: str) -> str:
    """What a page says of the state of all scenes, without what the latest scan did."""
    return text.partition(LATEST)[0]


def _markdown(
    out: Path, need: Sequence[Listed], again: Sequence[Listed], reports: Sequence[SceneReport], away: Sequence[Away]
) -> str:
    lines = [f"# {_headline(need)}", ""]
    if need:
        lines += [
            *_scenes(out, need),
            "A scene in quarantine is tried again when its file changes, or after",
            "",
            f"    geoseg watch {out.resolve()} --release NAME",
            "",
        ]
    if away:
        lines += ["## Sources that did not answer", "", *(f"- {markdown_text(one.reason)}" for one in away), ""]
    if again:
        lines += ["## Tried again without you", "", *_scenes(out, again)]
    if (out / INDEX_PAGE).is_file() and file_address(out / INDEX_PAGE) is not None:
        lines += [link("All scenes", out / INDEX_PAGE), ""]
    if reports:
        order = sorted(reports, key=lambda one: (one.status in ("done", "skipped"), one.scene))
        rows = (
            (
                link(one.scene, out / one.scene / PAGE) if one.outputs else markdown_text(one.scene),
                markdown_text(one.status),
                seconds_text(one.seconds),
                markdown_text(one.reason or "; ".join(one.warnings)),
            )
            for one in order[:MOST_ROWS]
        )
        lines += [LATEST, "", *markdown_table(("scene", "status", "time", "what to mind"), rows), *_more(len(order))]
    return "\n".join(lines) + "\n"


def _scenes(out: Path, listed: Sequence[Listed]) -> list[str]:
    """A list, not a table: reasons are long, and a page does not break the lines of a cell."""
    return [*(_scene(out, one) for one in listed[:MOST_ROWS]), "", *_more(len(listed))]


def _scene(out: Path, one: Listed) -> str:
    page = out / one.name / PAGE
    name = link(one.name, page) if page.is_file() else markdown_text(one.name)
    facts = [one.status]
    if one.attempts:
        facts.append(number_of(one.attempts, "attempt"))
    if one.next_try is not None:
        facts.append(f"next try: {one.next_try}")
    return f"- **{name}** ({markdown_text(', '.join(facts))}): {markdown_text(one.reason or '')}"


def _more(count: int) -> list[str]:
    return [f"{count - MOST_ROWS:,} more are in index.json.", ""] if count > MOST_ROWS else []
