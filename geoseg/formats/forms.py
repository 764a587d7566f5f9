"""Forms of QGIS: how the columns of a layer are filled in, as a part of its style."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

__all__ = ["QGIS_DOCTYPE", "Form"]

QGIS_DOCTYPE = '<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n'


class Form:
    """The fields of a form, added to the element of a style."""

    def __init__(self, root: ET.Element) -> None:
        """Begin a form.

        Args:
            root: ``qgis``, or the layer of a project.
        """
        self._root = root
        self._fields = ET.SubElement(root, "fieldConfiguration")
        self._aliases = ET.SubElement(root, "aliases")
        self._editable = ET.SubElement(root, "editable")

    def field(
        self,
        name: str,
        widget: str,
        title: str,
        *,
        choices: Sequence[str] = (),
        options: Sequence[tuple[str, str, str]] = (),
        editable: bool,
    ) -> None:
        """Add a field.

        Args:
            name: The column.
            widget: QGIS's name of what it is filled in with, such as ``ValueMap`` or ``TextEdit``.
            title: What people read.
            choices: Of a list.
            options: Type, name and value of further options.
            editable: Whether people may change it.
        """
        edit = ET.SubElement(ET.SubElement(self._fields, "field", {"name": name}), "editWidget", {"type": widget})
        config = ET.SubElement(ET.SubElement(edit, "config"), "Option", {"type": "Map"})
        if choices:
            listed = ET.SubElement(config, "Option", {"type": "List", "name": "map"})
            for text in choices:
                ET.SubElement(
                    ET.SubElement(listed, "Option", {"type": "Map"}), "Option", {"type": "QString", "name": text, "value": text}
                )
        for kind, key, value in options:
            ET.SubElement(config, "Option", {"type": kind, "name": key, "value": value})
        ET.SubElement(self._aliases, "alias", {"field": name, "name": title})
        ET.SubElement(self._editable, "field", {"name": name, "editable": "1" if editable else "0"})

    def end(self) -> None:
        """Have QGIS lay the fields out."""
        ET.SubElement(self._root, "editorlayout").text = "generatedlayout"
