"""Reports of scenes whose mapping has raised: one place for ``geoseg segment``, ``geoseg watch`` and the flows."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime
from pathlib import Path

from geoseg.errors import ConfigError, GeosegError, Interrupted, ModelError, OutsideAreaError, SceneError
from geoseg.redaction import redact, sanitized
from geoseg.scenes.remote import shown
from geoseg.scenes.sources import SceneRef
from geoseg.transient import is_transient
from pipeline.publish.report import SceneReport

__all__ = ["ERRORS", "failed_scene", "first_line", "note_error"]

log = logging.getLogger(__name__)

ERRORS = ".geoseg-errors.log"
"""In the output folder: what is known of failures that nobody has foreseen."""
MOST_BYTES = 1 << 20
MOST_TEXT = 300
EVERY_SCENE = (Interrupted, ConfigError, ModelError)


def failed_scene(error: Exception, ref: SceneRef, out: Path, seconds: float = 0.0) -> SceneReport:
    """The report of a scene that has raised, whatever it was; one outside of the area of interest has not failed.

    What geoseg raises is a sentence already. All else (a library's own errors, mistakes of ours) is told by its type and
    text, with its details in ``.geoseg-errors.log`` of the output folder.

    Raises:
        Interrupted: It was that: the run was stopped.
        ConfigError: It was that: the settings can't work for any scene.
        ModelError: It was that: the model can't be used.
    """
    if isinstance(error, EVERY_SCENE):
        raise error
    if isinstance(error, OutsideAreaError):
        return SceneReport(scene=ref.name, status="skipped", reason=str(error), seconds=seconds, left_out=True)
    if isinstance(error, GeosegError | OSError | MemoryError):
        text = str(error) or type(error).__name__
        if isinstance(error, SceneError) and ref.paths and ref.paths[0] not in text and shown(ref.paths[0]) not in text:
            text = f"{shown(ref.paths[0])}: {text}"
    else:
        place = note_error(error, ref.name, out)
        text = f"{shown(ref.paths[0]) if ref.paths else ref.name}: {first_line(error)}; details in {place}"
    return SceneReport(scene=ref.name, status="failed", reason=text, seconds=seconds, transient=is_transient(error))


def first_line(error: BaseException) -> str:
    """Type and text of an error, in one line of some length, its addresses without what is secret in them."""
    lines = [line for line in _text(error).splitlines() if line.strip()]
    text = sanitized(lines[0].strip())[:MOST_TEXT] if lines else ""
    return f"{type(error).__name__}: {text}".rstrip(": ")


def note_error(error: BaseException, name: str, out: Path) -> str:
    """Append where an error came from to the log of the output folder; gives its name. A full disk is no second error."""
    path = out / ERRORS
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - what an error says of itself can fail like anything else
        trace = "".join(traceback.format_tb(error.__traceback__))
    trace = redact(trace)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if path.is_symlink():
        # What a link leads to is not ours.
        return f"no log: {ERRORS} is a link"
    try:
        if path.exists() and path.stat().st_size > MOST_BYTES:
            path.replace(path.with_name(f"{ERRORS}.1"))
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{now} {name}\n{trace}\n")
    except OSError as full:
        log.warning("%s: can't be written: %s", path, full.strerror)
    return ERRORS


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - as above
        return ""
