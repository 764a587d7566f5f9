"""Names of folders for what comes from outside: ids, file names, parameters. Nobody else makes one."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path

from geoseg.errors import OutputError

__all__ = ["MAX_NAME_BYTES", "check_inside", "folder_name", "is_scene_name", "name_key", "scene_name"]

MAX_NAME_BYTES = 200
DIGEST = 8
FORBIDDEN = re.compile(r"[/\\]")
INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of controls, marks of format and direction, halves of pairs, and ends of lines."""
DEVICES = re.compile(r"(?:con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³]|conin\$|conout\$)\s*(?:\..*)?", re.IGNORECASE)
"""Names that Windows takes for devices, whatever ending follows."""
FILES = re.compile(
    r"(?:index|collection|items|report|status|health|metrics|run|chunks|item|model|classes|confidence|probabilities|uncertainty"
    r"|instances|panoptic|source|polygons|coverage|preview|changes|zones|zones_by_interval|damage|evaluation"
    r"|buildings|grid|density)\.\w[\w.]*",
    re.IGNORECASE,
)
"""Names of files that lie beside the folders of scenes, or in them."""


def folder_name(text: str) -> str:
    """A name for one folder, of any text; the same text gives the same name, and a name gives itself.

    What can't stand in a name becomes ``_``, and then a digest of the text follows, so that no two texts are taken for
    each other: separators, controls, a dot in front, a dot or a space at an end, names of devices, names of our files, and
    what is too long. Composed and decomposed letters are the same name (Unicode NFC), as several file systems hold it.
    """
    name = unicodedata.normalize("NFC", text)
    clean = "".join("_" if FORBIDDEN.match(c) or unicodedata.category(c) in INVISIBLE else c for c in name)
    clean = re.sub(r"^[.\s]+|[.\s]+$", lambda match: "_" * len(match.group()), clean) or "_"
    if DEVICES.fullmatch(clean):
        clean = f"_{clean}"
    whole = clean == name and FILES.fullmatch(clean) is None
    if whole and len(clean.encode()) <= MAX_NAME_BYTES:
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST]
    return clean.encode()[: MAX_NAME_BYTES - DIGEST - 1].decode("utf-8", "ignore") + "-" + digest


def scene_name(text: str) -> str:
    """The name of a scene of a path below the input: its folders are mirrored."""
    return "/".join(folder_name(part) for part in text.split("/"))


def is_scene_name(text: str) -> bool:
    """Whether a text is a name that ``scene_name`` makes."""
    return scene_name(text) == text


def name_key(name: str) -> str:
    """A key that two names share if they are one on a file system that does not distinguish the case of letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def check_inside(out: Path, *parts: str) -> Path:
    """The path of a folder below an output folder, which lies where its name says.

    Raises:
        OutputError: The name leads out of the output folder, or a link on the way does.
    """
    path = out.joinpath(*parts)
    base = os.path.realpath(out)
    wanted = os.path.normpath(os.path.join(base, *parts))
    if wanted == base or not wanted.startswith(base.rstrip(os.sep) + os.sep):
        raise OutputError(f"{path}: lies outside of {out}; nothing is written there")
    if (found := os.path.realpath(path)) != wanted:
        raise OutputError(f"{path}: leads by a link to {found}; links in the output folder are not followed, remove it")
    return path
