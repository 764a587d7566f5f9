"""Hooks of MkDocs: what stands outside of docs/, links to it, and proof that the site needs nothing but itself.

Pages of the reference are read from build/site, where website/reference.py writes them.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / "build" / "site"
# Pages of the repository that are none of docs/, by their place in the site.
BESIDE = {
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    **{
        str(path.relative_to(ROOT)): f"models/{path.parent.name}.md"
        for path in sorted((ROOT / "geoseg" / "models" / "shipped").glob("*/README.md"))
    },
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)
USED = re.compile(r"\bgeoseg ([a-z][a-z-]+)\b")
LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")


def on_config(config: Any) -> None:
    """Put the commands into the navigation."""
    pages = sorted(path.stem for path in (MADE / "reference" / "cli").glob("*.md") if path.stem != "index")
    if not pages:
        raise PluginError(f"{MADE}: no pages of the reference; make site writes them")
    reference = next(entry["Reference"] for entry in config["nav"] if "Reference" in entry)
    commands = next(entry["Commands"] for entry in reference if "Commands" in entry)
    commands += [{f"geoseg {name}": f"reference/cli/{name}.md"} for name in pages]


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that stand elsewhere."""
    for path in sorted(MADE.rglob("*.md")):
        files.append(File.generated(config, str(path.relative_to(MADE)), content=path.read_text(encoding="utf-8")))
    for source, place in BESIDE.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to where things stand in the site, and name the commands that a page uses."""
    place = page.file.src_uri
    source = next((own for own, there in BESIDE.items() if there == place), f"docs/{place}")
    parts = FENCE.split(markdown)
    text = "".join(part if part.startswith("```") else LINK.sub(lambda m: _link(m, source, place), part) for part in parts)
    used = [name for name in dict.fromkeys(USED.findall(markdown)) if (MADE / "reference" / "cli" / f"{name}.md").is_file()]
    if not place.startswith(("how-to/", "tutorials/")) or place.endswith("index.md") or not used:
        return text
    links = ", ".join(f"[`geoseg {name}`](../reference/cli/{name}.md)" for name in used)
    return f"{text}\n\n---\n\nAll options: {links}.\n"


def _link(match: re.Match[str], source: str, place: str) -> str:
    mark, text, target = match.groups()
    path, _, anchor = target.partition("#")
    if "://" in target or target.startswith("mailto:") or not path:
        return match[0]
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    there = "index.md" if wanted == "README.md" else BESIDE.get(wanted)
    if there is None and wanted.startswith("docs/"):
        there = wanted.removeprefix("docs/")
    if there is None:
        # A source file: it is named, for the site holds no sources.
        if not (ROOT / wanted).exists():
            raise PluginError(f"{source}: {target} leads nowhere")
        return text
    if (ROOT / "docs" / there).is_dir():
        return text
    return f"{mark}[{text}]({posixpath.relpath(there, posixpath.dirname(place) or '.')}{'#' + anchor if anchor else ''})"


def on_post_build(config: Any) -> None:
    """Refuse a site that would load anything from elsewhere."""
    for folder, _, names in os.walk(config["site_dir"]):
        for name in names:
            path = Path(folder) / name
            if path.suffix in (".html", ".css") and (found := LOADED.search(path.read_text(encoding="utf-8"))):
                raise PluginError(f"{path}: loads {found[1]}; a site is to work without a network")
