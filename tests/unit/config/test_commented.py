"""Commented documents hold every setting, and what they say is the default is the default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel
from support import call_cli

from pipeline.config.commented import commented_table
from pipeline.config.sections import Config
from pipeline.train.recipe import Recipe, recipe_to_begin_from
from pipeline.train.recipe_data import DataRecipe

DEFAULT = re.compile(r"^#(?=[a-z_0-9]+ = )", re.MULTILINE)
SETTING = re.compile(r"^#?([a-z_0-9]+) =", re.MULTILINE)


def with_defaults(text: str) -> dict:
    """The document with each default taken as a value."""
    return tomllib.loads(DEFAULT.sub("", text))


def test_defaults_of_a_recipe_change_nothing() -> None:
    text = recipe_to_begin_from()
    plain, told = Recipe.parse(tomllib.loads(text)), Recipe.parse(with_defaults(text))
    assert plain == told
    # In what is told, all that has a default stands there.
    assert set(with_defaults(text)["loop"]) == set(type(plain.loop).model_fields)


def test_defaults_of_settings_change_nothing() -> None:
    text = commented_table(Config)
    assert tomllib.loads(text).keys() == Config.model_fields.keys()
    assert Config.parse(with_defaults(text)) == Config()


def test_every_setting_stands_there_and_is_told_of() -> None:
    for text, kinds in (
        (commented_table(Config), [type(field.default) for field in Config.model_fields.values()]),
        (recipe_to_begin_from(), [DataRecipe, *(type(field.default) for field in Recipe.model_fields.values())]),
    ):
        shown = set(SETTING.findall(text))
        for kind in kinds:
            if issubclass(kind, BaseModel):
                wanted = {name for name, field in kind.model_fields.items() if name != "old"}
                assert wanted <= shown, wanted - shown
                assert all(field.description for field in kind.model_fields.values()), kind


@pytest.mark.parametrize("command", ["train", "watch"])
def test_init_writes_once(command: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    done = call_cli([command, "--init", path])
    assert (done.returncode, str(path) in done.stderr) == (0, True)
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    assert Recipe.parse(document) if command == "train" else Config.parse(document) == Config()
    before = path.read_bytes()
    again = call_cli([command, "--init", path])
    assert (again.returncode, again.stderr.count("\n"), "is there already" in again.stderr) == (2, 1, True)
    assert path.read_bytes() == before
    assert call_cli([command, "--init", tmp_path / "none" / "a.toml"]).returncode == 2
