"""The model as a page tells of it: its card, and the table at the head of its README, which has its accuracy."""

from __future__ import annotations

import re
from pathlib import Path

from geoseg.digits import count_text
from geoseg.formats.page.elements import Entry, Facts, Section
from geoseg.models.card import Card
from geoseg.models.readme_facts import readme_facts

__all__ = ["model_section"]

SPDX = re.compile(r"[A-Za-z0-9.+-]{2,40}")
LICENCES = "https://spdx.org/licenses/"


def model_section(card: Card, sha256: str, folders: tuple[Path, ...], domain: str | None = None) -> Section:
    """The model: what it is, how right it was where that was measured, what it learned from.

    Args:
        card: Its card.
        sha256: Its identity.
        folders: Of the model, or of the members of an ensemble.
        domain: How near the scene is to what it was made for.
    """
    measured = [fact for folder in folders for fact in readme_facts(folder)]
    licence = f"{LICENCES}{card.license}.html" if SPDX.fullmatch(card.license) and card.license != "other" else ""
    entries = [
        Entry("Name", f"{card.name} {card.version}"),
        Entry("Made for", card.description),
        *([] if domain is None else [Entry("This scene", domain)]),
        *measured,
        *([] if measured else [Entry("Accuracy", "not stated: the folder of the model has no README with figures")]),
        Entry("Network", f"{card.architecture}, {count_text(card.total_parameters)} parameters"),
        Entry("Bands", ", ".join(card.bands)),
        *([] if card.gsd_m is None else [Entry("Pixels that it learned from", f"{card.gsd_m:g} m")]),
        *(
            Entry("Learned from", f"{source.name} ({source.license}){f'. {source.attribution}' if source.attribution else ''}")
            for source in card.data
        ),
        Entry("Licence of the weights", card.license, licence),
        Entry("sha256", sha256),
    ]
    kept = {(entry.name, entry.text): entry for entry in entries if entry.text}
    return Section("The model", (Facts(tuple(kept.values())),))
