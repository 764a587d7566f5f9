"""The site: every page is reached, what it says of the code is what the code says, links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys

import pytest
import yaml
from support import ROOT

from geoseg import errors
from geoseg.polygons.features import ALIASES, MEANINGS, feature_schema
from pipeline.cli import COMMANDS, group
from pipeline.config.sections import Config
from pipeline.train.recipe import Recipe

CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The pages that are made from the code."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "website" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return dict(module.pages())


def in_navigation(entries: list) -> set[str]:
    """All pages that the navigation names."""
    found = set()
    for entry in entries:
        values = [entry] if isinstance(entry, str) else list(entry.values())
        for value in values:
            found |= in_navigation(value) if isinstance(value, list) else {value}
    return found


def test_the_navigation_has_every_page(made: dict[str, str]) -> None:
    named = in_navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    written = {str(path.relative_to(ROOT / "docs")) for path in PAGES}
    # Commands are put in when the site is built.
    of_commands = {f"reference/cli/{name}.md" for name in COMMANDS}
    assert named - {"changes.md", "contributing.md"} == written | set(made) - of_commands


def test_links_of_the_pages_lead_somewhere(made: dict[str, str]) -> None:
    for path in PAGES:
        for target in LINK.findall(CODE.sub("", path.read_text(encoding="utf-8"))):
            place = target.partition("#")[0]
            if "://" in target or not place:
                continue
            there = (path.parent / place).resolve()
            inside = str(there.relative_to(ROOT / "docs")) if there.is_relative_to(ROOT / "docs") else ""
            assert there.exists() or inside in made, f"{path.name}: {target}"


def test_every_option_of_every_command_stands_in_its_page(made: dict[str, str]) -> None:
    for name in COMMANDS:
        page = made[f"reference/cli/{name}.md"]
        for option in group.get_command(None, name).params:
            for text in option.opts if option.param_type_name == "option" else ():
                if text.startswith("-"):
                    assert f"`{text}`" in page, f"{name} {text}"


def test_every_setting_and_field_has_its_row(made: dict[str, str]) -> None:
    for name, section in Config.model_fields.items():
        for key, field in type(section.default).model_fields.items():
            assert f"| `{key}` |" in made["reference/settings.md"], f"{name}.{key}"
            assert field.description, f"{name}.{key}"
    for key in {"name", "gsd_m", *type(Recipe.model_fields["loop"].default).model_fields}:
        assert f"| `{key}` |" in made["reference/recipe.md"], key


def test_every_attribute_of_polygons_is_told_of(made: dict[str, str]) -> None:
    columns = {*feature_schema(objects=True, changes=True, origins=True).names} - {"geometry"}
    assert columns == {*ALIASES} == {*MEANINGS}
    for name in columns:
        assert re.search(rf"^\| `{name}` \| \w+", made["reference/polygons.md"], re.MULTILINE), name


def test_every_class_of_errors_that_is_raised_has_its_sentences(made: dict[str, str]) -> None:
    page = made["reference/errors.md"]
    told = {name for name in errors.__all__ if f"\n## {name}\n" in page}
    assert {"ConfigError", "OutputError", "ModelError", "NotARasterError", "GeoreferenceError", "BandError"} <= told
    assert page.count("\n| ") > 400
    assert "holds results of another run" in page


def test_sentences_of_troubleshooting_are_those_of_the_code() -> None:
    said = "\n".join(
        node.value
        for package in ("geoseg", "pipeline", "flows")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    # As the command line says it, settings are flags.
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert len(rows) >= 40
    for row in rows:
        for part in re.split(r"…|--[a-z-]+|LOW,HIGH|\$|EPSG:xxxx|\bauto\b", row):
            words = part.strip(" :;,.()")
            assert words in said, f"{row}: {words}"
