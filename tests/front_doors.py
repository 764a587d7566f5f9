"""Keywords of the verbs of Python, made from the commands: `make check` fails where the two have moved apart.

    python tests/front_doors.py            compares, and exits with 1 where they differ
    python tests/front_doors.py --write    writes pipeline/api/keywords.py anew

Options of the sections of ``pipeline.config`` bring their types from there, the others from click. No default is written.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click

from pipeline.cli.options import SectionOption
from pipeline.config.delivering import DeliveryConfig
from pipeline.config.sections import Config

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "pipeline" / "api" / "keywords.py"
# Verbs, their commands, and those of their parameters that stand in the function itself.
VERBS = {
    "segment": ("segment", {"inputs", "models", "out"}),
    "vectorize": ("vectorize", {"rasters", "out", "join"}),
    "composite": ("composite", {"inputs", "out"}),
    "deforestation": ("deforestation", {"dates", "models", "out"}),
    "grade_damage": ("damage", {"pre", "post", "model", "out"}),
    "evaluate": ("evaluate", {"predictions", "truth", "out"}),
    "match": ("match", {"found", "truth"}),
    "train": ("train", {"recipe", "out"}),
    "calibrate": ("calibrate", {"model", "images", "labels", "out"}),
    "quantize": ("quantize", {"model", "images", "labels", "out"}),
    "adopt": ("adopt", {"source", "images", "labels", "out"}),
    "sample": ("sample", {"class_map", "out"}),
    "area": ("area", {"class_map", "sample"}),
    "deliver": ("deliver", {"folder", "out", "event"}),
    "screen": ("screen", {"maps", "wanted", "out"}),
    "load": ("load", {"folder", "service"}),
}
# Verbs whose commands are several: methods of what they give.
GROUPS = {"review"}
# What the command line says of itself; a function has `progress`, and says nothing without it.
OF_THE_TERMINAL = {"as_json", "quiet", "dry_run", "dry_run_only", "init"}
# Texts of the command line that stand for values.
VALUES = {
    "around": "Sequence[str]",
    "baseline": "str | Path | Sequence[str | Path]",
    "baseline_bands": "Sequence[str]",
    "baseline_methods": "Sequence[str]",
    "bands": "Sequence[str]",
    "boundary": "Sequence[str]",
    "classes": "Sequence[str]",
    "confidence": "str | Path | Sequence[str | Path]",
    "expected": "Mapping[str, float]",
    "gsd": "str | float | None",
    "images": "Sequence[str]",
    "interest": "Sequence[str]",
    "map": "Mapping[str, str]",
    "mean": "Sequence[float]",
    "names": "Mapping[int, str]",
    "rename": "tuple[str, str]",
    "set": "Mapping[str, object]",
    "sizes": "Sequence[str]",
    "std": "Sequence[float]",
    "value": "Mapping[str, str]",
    "value_range": "Sequence[float]",
}
# Settings that name files.
FILES = {"aoi": "str | Path | None"}
HEAD = '''"""Keywords of the verbs.

Made by ``tests/front_doors.py`` from the commands and the sections of settings; not edited by hand.

Names and units are those of the command line; what is not given has the default that stands there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

'''


def option_of(parameter: click.Parameter) -> str:
    """The name of an option as one types it, as a keyword."""
    long = [text for text in parameter.opts if text.startswith("--")]
    return long[0].removeprefix("--").replace("-", "_") if long else str(parameter.name)


def _choice(values: tuple[str, ...]) -> str:
    return "Literal[" + ", ".join(f'"{value}"' for value in values) + "]"


def _type(annotation: Any) -> str:
    """The type of a setting, as source."""
    kind = get_origin(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type(get_args(annotation)[0])
    if kind in (Union, types.UnionType):
        return " | ".join(map(_type, get_args(annotation)))
    if kind is Literal:
        return _choice(get_args(annotation))
    if kind is tuple and get_args(annotation)[-1] is Ellipsis:
        return f"Sequence[{_type(get_args(annotation)[0])}]"
    if kind is tuple:
        return f"tuple[{', '.join(map(_type, get_args(annotation)))}]"
    return "None" if annotation is type(None) else str(annotation.__name__)


def _type_of_option(option: click.Parameter, name: str) -> str:
    """The type of an option that is no setting of a section, as source."""
    kind = option.type
    if name in VALUES:
        text = VALUES[name]
    elif isinstance(kind, click.Choice):
        text = _choice(tuple(kind.choices))
    elif isinstance(kind, click.Path):
        text = "str | Path"
    else:
        text = {"integer": "int", "integer range": "int", "float range": "float", "boolean": "bool", "text": "str"}[kind.name]
    if name not in VALUES and option.multiple:
        text = f"Sequence[{text}]"
    optional = not option.required and not option.multiple and str(option.default) in ("None", "Sentinel.UNSET")
    return text + " | None" if optional and name not in VALUES and text != "bool" else text


def keywords(verb: str) -> dict[str, str]:
    """Types of a verb's keywords by name."""
    command, own = VERBS[verb]
    found: list[tuple[str, str]] = []
    for parameter in importlib.import_module(f"pipeline.cli.{command}").command.params:
        if isinstance(parameter, SectionOption):
            found.append((parameter.key, sections()[parameter.section][parameter.key]))
        elif parameter.name not in own | OF_THE_TERMINAL and "help" not in parameter.opts:
            found.append((option_of(parameter), _type_of_option(parameter, option_of(parameter))))
    doubled = [name for name, n in Counter(name for name, _ in found).items() if n > 1]
    assert not doubled, f"{verb}: {', '.join(doubled)} stands for two settings"
    return dict(found)


def sections() -> dict[str, dict[str, str]]:
    """Types of all settings by section and name."""
    names = ("scene", "area", "stac", "dates", "grid", "infer", "vector", "mosaic", "composite", "run")
    kinds = {name: type(getattr(Config(), name)) for name in names} | {"delivery": DeliveryConfig}
    return {
        section: {key: FILES.get(key) or _type(field.annotation) for key, field in kind.model_fields.items()}
        for section, kind in kinds.items()
    }


def _class(name: str, bases: list[str], text: str, entries: dict[str, str]) -> str:
    lines = "".join(f"    {key}: {kind}\n" for key, kind in entries.items())
    return (
        f'\n\nclass {name}({", ".join([*bases, "TypedDict"][: max(1, len(bases))])}, total=False):\n    """{text}"""\n\n{lines}'
    )


def source() -> str:
    """The text of the module."""
    verbs = {"".join(part.title() for part in verb.split("_")) + "Settings": verb for verb in VERBS}
    text = HEAD + f"__all__ = {sorted(verbs)!r}\n"
    for section, entries in sections().items():
        text += _class(f"_{section.title()}", [], f"The section ``{section}``.", entries)
    for name, verb in verbs.items():
        entries = keywords(verb)
        whole = [section for section, own in sections().items() if own.items() <= entries.items()]
        rest = {key: kind for key, kind in entries.items() if not any(key in sections()[section] for section in whole)}
        text += _class(name, [f"_{section.title()}" for section in whole], f"Of ``geoseg {VERBS[verb][0]}``.", rest)
    ruff = [str(Path(sys.executable).with_name("ruff")), "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def main() -> int:
    """Compare or write."""
    if "--write" in sys.argv:
        TARGET.write_text(source(), encoding="utf-8")
        return 0
    same = TARGET.read_text(encoding="utf-8") == source()
    print(f"keywords of the verbs: {'as the commands have them' if same else 'moved apart; python tests/front_doors.py --write'}")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
