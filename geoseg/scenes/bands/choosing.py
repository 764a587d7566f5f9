"""Choosing the bands that a model takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from geoseg.dialect import listed, setting
from geoseg.errors import BandError
from geoseg.scenes.bands.roles import ALPHA, readings
from geoseg.scenes.bands.wavelengths import agree
from geoseg.scenes.scene import Scene

__all__ = ["choose_bands"]


MOST_LISTED = 30
"""A message names so many bands: a file may have 65,535."""


def choose_bands(scene: Scene, wanted: Sequence[str], chosen: Sequence[str] | None) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Choose the bands of a scene that the model gets, in the model's order.

    Names come first, then what names and wavelengths tell of (``B04`` of Sentinel-2 is red), then colour interpretation where
    the band has no name that says otherwise; and order, where the counts agree and nothing speaks against it.

    Args:
        scene: The scene.
        wanted: Names of the model's bands.
        chosen: What the user asked for: band numbers from 1, or names; None to choose by what the file says.

    Returns:
        Indices into ``scene.bands``, and notes for the report.

    Raises:
        BandError: The bands are missing or ambiguous, or what the file says of them differs.
    """
    if chosen is not None:
        return _by_user(scene, wanted, chosen), ()
    _refuse_absent(scene, wanted)
    _refuse_conflicts(scene, wanted)
    for labels in _labels(scene, wanted):
        if all(labels.count(name) == 1 for name in wanted):
            found = tuple(labels.index(name) for name in wanted)
            return found, _notes(scene, wanted, found)
    known = {name for labels in _labels(scene, wanted) for name in labels if name in wanted}
    told = [band.role for band in scene.bands if band.role is not None]
    if len(scene.bands) == len(wanted) and not known and not told:
        note = f"bands are not named, so they are taken in the order of the file as {', '.join(wanted)}"
        return tuple(range(len(wanted))), (note,)
    listing, takes = _listing(scene), f"the model takes {len(wanted)} bands ({', '.join(wanted)})"
    if len(scene.bands) < len(wanted):
        raise BandError(f"{scene.path}: {takes}, the file has {len(scene.bands)}: {listing}")
    raise BandError(
        f"{scene.path}: {takes}, and which of the file's {len(scene.bands)} they are is not clear: {listing}; "
        f"name them with {setting('bands')}, {_example(scene, wanted)}"
    )


def _labels(scene: Scene, wanted: Sequence[str]) -> Iterator[list[str | None]]:
    """What the bands can be called, the surest names first."""
    names, roles = [band.name for band in scene.bands], [band.role for band in scene.bands]
    colors = _colors(scene)
    told = [_wanted_role(role, wanted, roles) for role in roles]
    yield list(names)
    yield list(told)
    named = [name if name in wanted else role for name, role in zip(names, told, strict=True)]
    yield named
    yield list(colors)
    yield [name if name in wanted else color for name, color in zip(named, colors, strict=True)]


def _colors(scene: Scene) -> list[str | None]:
    """The colours that say something, where the band has no name that says something else.

    All that somebody chose, and GDAL's default where it can be that of bands with such names: ``SR_B2`` is blue or green, as the
    satellite is, and never red; where no satellite's bands are coloured so, none of them are.
    """
    colors = [band.color for band in scene.bands]
    read = [roles for roles in readings([band.name for band in scene.bands]).values() if any(role is not None for role in roles)]
    fits = not read or any(
        all(role is None or color == ALPHA or agree(role, color) for role, color in zip(roles, colors, strict=True))
        for roles in read
    )
    return [
        band.color
        if (fits or band.told_color) and (band.role is None or (band.told_color and agree(band.role, band.color)))
        else None
        for band in scene.bands
    ]


def _wanted_role(role: str | None, wanted: Sequence[str], roles: Sequence[str | None]) -> str | None:
    """A role as the model calls it: ``nir08`` is its ``nir`` where the file has no nearer one."""
    if role is None or role in wanted:
        return role
    near = [name for name in wanted if agree(name, role) and name not in roles]
    return near[0] if len(near) == 1 and sum(r is not None and agree(r, near[0]) for r in roles) == 1 else role


def _refuse_absent(scene: Scene, wanted: Sequence[str]) -> None:
    """Refuse a product that lacks the file of a band that is wanted: another band of a like role is no substitute.

    Raises:
        BandError: It does.
    """
    there = {label for band in scene.bands for label in (band.name, band.role)}
    for band in () if scene.product is None else scene.product.absent:
        if name := next((name for name in (band.name, band.role) if name in wanted and name not in there), None):
            raise BandError(f"{scene.path}: its band {band.name}, which is to be {name}, can't be read: {band.reason}")


def _refuse_conflicts(scene: Scene, wanted: Sequence[str]) -> None:
    """Refuse a scene of which what is written about its bands differs, where the model's bands are concerned.

    Raises:
        BandError: It does.
    """
    for number, band in enumerate(scene.bands, 1):
        if band.conflict is None or (band.name in wanted and band.role is None):
            continue
        told = {band.role, band.color} - {None}
        if any(agree(str(label), name) for label in told for name in (*wanted, ALPHA)):
            raise BandError(
                f"{scene.path}: band {number}: {band.conflict}; correct the file, or say which bands to take with "
                f"{setting('bands')}, {_example(scene, wanted)}"
            )


def _notes(scene: Scene, wanted: Sequence[str], found: Sequence[int]) -> tuple[str, ...]:
    """A note where names beat the colours that GDAL gives by default."""
    bands = [scene.bands[i] for i in found]
    if not any(not b.told_color and b.role is not None and b.color != b.role for b in bands):
        return _note_of_defaults(scene, wanted, found)
    taken = ", ".join(
        f"{name} is band {i + 1}" + (f" ({scene.bands[i].name})" if scene.bands[i].name else "")
        for name, i in zip(wanted, found, strict=True)
    )
    return (f"bands are taken by their names or wavelengths, not by the colours that GDAL gives any such file: {taken}",)


def _note_of_defaults(scene: Scene, wanted: Sequence[str], found: Sequence[int]) -> tuple[str, ...]:
    """A note where nothing but the colours that GDAL gives by default says what bands are."""
    bands = [scene.bands[i] for i in found]
    if any(b.told_color or b.role is not None or b.name in wanted for b in bands):
        return ()
    names = [str(b.name) for b in scene.bands if b.name is not None and b.role is None]
    # A file of three bands without names is what it seems.
    if not names and len(scene.bands) == len(wanted):
        return ()
    taken = ", ".join(f"{name} is band {i + 1}" for name, i in zip(wanted, found, strict=True))
    unread = f"; their names ({', '.join(names[:MOST_LISTED])}) say nothing that is known" if names else ""
    cure = f"give {setting('bands')} if they are others"
    return (f"bands are taken by the colours that GDAL gives any such file: {taken}{unread}; {cure}",)


def _example(scene: Scene, wanted: Sequence[str]) -> str:
    """An example of the setting ``bands`` for this file, as far as its names let one guess."""
    bands, colors = scene.bands, _colors(scene)
    told: list[list[str | None]] = [[band.role or band.name or color for band, color in zip(bands, colors, strict=True)], colors]
    for labels in told:
        if all(name in labels for name in wanted):
            return f"for example {setting('bands', _numbers(labels, wanted))}"
    read = {title: roles for title, roles in readings([band.name for band in bands]).items() if {*wanted} <= {*roles}}
    if read:
        first = _numbers(next(iter(read.values())), wanted)
        titles = " or ".join(title for title, roles in read.items() if _numbers(roles, wanted) == first)
        return f"for example {setting('bands', first)} if the image is of {titles}"
    names = {label for labels in told for label in labels if label is not None}
    missing = [name for name in wanted if not any(agree(name, label) for label in names)]
    if len(missing) < len(wanted):
        return f"the numbers of {', '.join(wanted)} in this order; none is known to be {' or '.join(missing or wanted)}"
    return f"the numbers of {', '.join(wanted)} in this order"


def _numbers(labels: Sequence[str | None], wanted: Sequence[str]) -> str:
    return ",".join(str(labels.index(name) + 1) for name in wanted)


def _listing(scene: Scene) -> str:
    return listed([f"{i} {band.label}" for i, band in enumerate(scene.bands, start=1)], MOST_LISTED)


def _by_user(scene: Scene, wanted: Sequence[str], chosen: Sequence[str]) -> tuple[int, ...]:
    if len(chosen) != len(wanted):
        raise BandError(
            f"{setting('bands')}: {len(chosen)} bands ({', '.join(chosen)}), but the model takes {len(wanted)} "
            f"({', '.join(wanted)})"
        )
    result = []
    for text in chosen:
        if text.strip().isdecimal():
            index = int(text) - 1
            if not 0 <= index < len(scene.bands):
                raise BandError(
                    f"{scene.path}: {setting('bands')}: no band {text}; the file has {len(scene.bands)}: {_listing(scene)}"
                )
        else:
            labels = [text.strip().lower() in (band.name, band.role) for band in scene.bands]
            _refuse_absent(scene, [text.strip().lower()])
            if not any(labels):
                labels = [text.strip().lower() == band.color for band in scene.bands]
            if labels.count(True) != 1:
                raise BandError(
                    f"{scene.path}: {setting('bands')}: {labels.count(True)} bands are named {text!r}: {_listing(scene)}"
                )
            index = labels.index(True)
        result.append(index)
    return tuple(result)
