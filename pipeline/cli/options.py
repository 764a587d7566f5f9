"""Command-line options made from the classes of ``pipeline.config``: one definition of names, units and defaults."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from pipeline.cli.lists import QUOTING, Assignments, split_list
from pipeline.config.section import Section
from pipeline.config.sections import Config

__all__ = ["ConfiguredCommand", "config_from", "config_options", "given_in", "names_of", "section_options", "section_values"]

NAMES = Assignments("--names", "CODE=NAME", "0=other,1=forest")
HEADINGS = {
    "scene": "Scenes",
    "area": "Area of interest",
    "dates": "Dates",
    "grid": "Grid (the tile and the halo are part of the result)",
    "infer": "Inference",
    "vector": "Polygons",
    "mosaic": "Mosaics (with --mosaic)",
    "composite": "Composites",
    "run": "Running",
    "delivery": "Delivery (also of the table [delivery] of --config)",
    "watch": "Watching",
    "stac": "STAC (items, and searches of sources that start with stac+)",
}


class SectionOption(click.Option):
    """An option that stands for one field of one section."""

    def __init__(
        self,
        section: str,
        key: str,
        names: Sequence[str],
        text: str,
        *,
        kind: click.Choice[str] | click.types.StringParamType | None = None,
        metavar: str | None = None,
        is_flag: bool = False,
    ) -> None:
        super().__init__(names, type=kind, default=None, help=text, metavar=metavar, is_flag=is_flag or None)
        self.section, self.key = section, key


class ConfiguredCommand(click.Command):
    """Shows options by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of the configuration under their headings."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            # Arguments stand in the usage.
            if record is not None and isinstance(parameter, click.Option):
                heading = HEADINGS[parameter.section] if isinstance(parameter, SectionOption) else "Options"
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def config_options(sections: Iterable[str], leave_out: Iterable[str] = ()) -> list[click.Parameter]:
    """An option for every field of some sections."""
    skipped = set(leave_out)
    return [
        option
        for section in sections
        for option in section_options(section, type(getattr(Config(), section)))
        if option.key not in skipped
    ]


def section_options(section: str, kind: type[Section]) -> list[SectionOption]:
    """An option for every field of a section."""
    return [_option(section, key, field) for key, field in kind.model_fields.items()]


def section_values(section: str, kind: type[Section], values: Mapping[str, object]) -> dict[str, object]:
    """The values of a section's options that were given, as a TOML file has them."""
    found: dict[str, object] = {}
    for key, field in kind.model_fields.items():
        value = values.get(f"{section}__{key}")
        if value is not None:
            is_list = any(get_origin(part) is tuple for part in _kinds(field.annotation))
            found[key] = _split(str(value), "--" + key.replace("_", "-")) if is_list else value
    return found


def _option(section: str, key: str, field: FieldInfo) -> SectionOption:
    flag = "--" + key.replace("_", "-")
    text = field.description or ""
    kinds = _kinds(field.annotation)
    default = field.default
    if (
        default is not None
        and default is not False
        and "[default" not in text
        and not isinstance(default, tuple)
        and default != 0
    ):
        text += f" [default: {str(default).lower() if isinstance(default, bool) else default}]"
    elif isinstance(default, tuple) and default:
        text += f" [default: {','.join(default)}]"
    if any(get_origin(kind) is tuple for kind in kinds):
        text += f" {QUOTING}"
    if bool in kinds:
        names = [f"{flag}/--no-{flag[2:]}"] if default else [flag]
        return SectionOption(section, key, [*names, f"{section}__{key}"], text, is_flag=True)
    choices = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    of_choices = bool(choices) and all(get_origin(kind) is Literal or kind is type(None) for kind in kinds)
    kind = click.Choice(choices) if of_choices else click.STRING
    metavar = _metavar(kinds, of_choices)
    extra = field.json_schema_extra
    also = [str(extra["also"])] if isinstance(extra, dict) and "also" in extra else []
    return SectionOption(section, key, [flag, *also, f"{section}__{key}"], text, kind=kind, metavar=metavar)


def _kinds(annotation: object) -> list[object]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    if hasattr(annotation, "__metadata__"):
        return _kinds(get_args(annotation)[0])
    return [annotation]


def _metavar(kinds: list[object], of_choices: bool) -> str | None:
    if of_choices:
        return None
    if any(get_origin(kind) is tuple for kind in kinds):
        return "LIST"
    return "N" if int in kinds else "NUMBER" if float in kinds else "TEXT"


def config_from(values: Mapping[str, object], file: Path | None = None) -> Config:
    """The configuration of a TOML file with the options given on the command line over it.

    Raises:
        ConfigError: A key is unknown or a value can't work.
    """
    sections = dict.fromkeys(name.partition("__")[0] for name, value in values.items() if "__" in name and value is not None)
    changes = {section: section_values(section, type(getattr(Config(), section)), values) for section in sections}
    return Config.read(file, changes) if file is not None else Config.parse(changes)


def given_in(values: Mapping[str, object]) -> list[str]:
    """Names of the settings that the command line gives, without their sections."""
    return [name.partition("__")[2] for name, value in values.items() if "__" in name and value is not None]


def _split(text: str, option: str) -> list[str]:
    return [] if text.strip().lower() == "none" else split_list(text, option)


def names_of(text: str | None) -> dict[int, str]:
    """Class names by code, of ``0=other,1=forest``.

    Raises:
        ConfigError: It is not of that form.
    """
    return {} if text is None else NAMES.parsed(text, _code, _name)


def _code(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _name(text: str) -> str:
    if not text:
        raise ValueError("no name")
    return text
