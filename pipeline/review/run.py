"""Review in the browser: the view of a map, with a panel in which people decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from geoseg.errors import ConfigError
from pipeline.review.desk import Desk, Task
from pipeline.review.review_log import reviewing_as
from pipeline.review.subject import Subject
from pipeline.view.ending import ended_by_signals
from pipeline.view.run import open_gallery
from pipeline.view.viewed_inputs import find_all

__all__ = ["only_map", "review"]

NAMED = 5
"""Maps that a refusal names."""


def only_map(inputs: Sequence[Path], option: str = "--review") -> Path:
    """The folder of the one map that inputs hold, which an option asks for.

    Raises:
        ConfigError: They hold none of a run, or several.
    """
    found = find_all(inputs)
    folders = [folder for one in found if (folder := one.to_review) is not None]
    if len(found) == len(folders) == 1:
        return folders[0]
    if not folders:
        held = ", ".join(map(str, inputs))
        raise ConfigError(
            f"{option}: {held} holds no map by class of geoseg segment and no buildings of geoseg damage to correct"
        )
    names = ", ".join(map(str, folders[:NAMED])) + (" …" if len(folders) > NAMED else "")
    raise ConfigError(f"{option}: one map at a time, and there are {len(found)}; name one: {names}")


def review(
    folder: Path,
    name: str,
    say: Callable[[str], None],
    *,
    basemap: str | None = None,
    port: int = 0,
    browser: bool = True,
) -> None:
    """Serve a map for review until Ctrl-C or SIGTERM.

    Args:
        folder: The folder of a scene, or of one of its versions.
        name: Who reviews.
        say: Is told the address.
        basemap: Tiles of a map beneath.
        port: Where; 0 for any that is free.
        browser: Whether to open it in the user's browser.

    Raises:
        ConfigError: There is no map to review.
        OutputBusyError: Somebody reviews it under this name.
        OutputError: The log can't be written.
    """
    from pipeline.review.routes import POSTS, review_routes
    from pipeline.view.serving import serve

    with ended_by_signals():
        subject = Subject.open(folder)
        subject.polygons()
        gallery = open_gallery([subject.folder], basemap)
        with reviewing_as(subject.reviews, name):
            desk = Desk(Task.of(subject), gallery.map(0), name)
            serve(gallery, port, say, browser=browser, more=review_routes(desk), posts=POSTS)
