"""Pages of the reference, made from the code: `make site` writes them to build/site, and nobody edits them.

    python website/reference.py FOLDER

Options come from click, settings and recipes from pydantic, attributes of polygons from the schema that they are written with,
sentences of refusals from the code that raises them.
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import geoseg
from geoseg import codes, errors
from geoseg.polygons.features import ALIASES, MEANINGS, feature_schema
from pipeline.api import keywords
from pipeline.api.mapping import Vectorized
from pipeline.api.reviewing import Review
from pipeline.api.scene_map import Maps, SceneMap
from pipeline.cli import COMMANDS, group
from pipeline.cli.options import HEADINGS, QUOTING, SectionOption
from pipeline.config.sections import Config
from pipeline.publish.run import TITLES
from pipeline.train.recipe import Recipe

INDEX = """# Reference

Made from the code of this version.

- [Commands](cli/index.md) and their options; [settings](settings.md) of `--config`; the [recipe](recipe.md) of a training
- [Python](python.md): the verbs and nouns of `import geoseg`
- [Files of a map](files.md), [attributes of polygons](polygons.md), [formats that are read](../imagery.md), [STAC](../stac.md)
- [Every refusal](errors.md), [glossary](../glossary.md)
"""
ROOT = Path(__file__).resolve().parent.parent
CALLED = {"grade_damage": "damage"}
NOTE = "\n<!-- Made from the code by website/reference.py. -->\n"


def cell(text: str) -> str:
    """A text as it stands in a table: one line, without what Markdown or HTML would take as theirs."""
    for sign, instead in {
        "&": "&amp;",
        "<": "&lt;",
        "|": "&#124;",
        "*": "&#42;",
        "[": "&#91;",
        "_": "&#95;",
        "`": "&#96;",
    }.items():
        text = text.replace(sign, instead)
    return " ".join(text.split())


def code(text: str) -> str:
    """A text as code in a table."""
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


# --- commands ---------------------------------------------------------------------------------------------------------


def command(name: str) -> click.Command:
    """A command by its name."""
    found = group.get_command(click.Context(group), name)
    assert found is not None, name
    return found


def cli_page(name: str) -> str:
    """A command: its usage, what it does, its arguments and options by section."""
    this = command(name)
    context = click.Context(this, info_name=f"geoseg {name}", parent=None)
    usage = " ".join(this.collect_usage_pieces(context))
    groups: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for option in this.params:
        if isinstance(option, click.Option) and not option.hidden:
            heading = HEADINGS[option.section] if isinstance(option, SectionOption) else "Options"
            groups[heading].append(option_row(option, context))
    text = f"# geoseg {name}\n{NOTE}\n{COMMANDS[name]}\n\n```text\ngeoseg {name} {usage}\n```\n\n"
    text += inspect.cleandoc(this.help or "") + "\n"
    for heading, rows in groups.items():
        text += f"\n## {heading}\n\n{table(('option', 'value', 'default', 'is'), rows)}"
    return text


def option_row(option: click.Option, context: click.Context) -> tuple[str, ...]:
    """Names, form of the value, default and meaning of an option."""
    names = [*option.opts, *option.secondary_opts]
    if isinstance(option, SectionOption):
        names = [option_name for option_name in names if option_name.startswith("-")]
    shown = "" if option.is_flag else option.make_metavar(context)
    text = (option.help or "").replace(QUOTING, "").strip()
    text, _, default = text.partition(" [default: ")
    default = default.rstrip("]")
    if not default and not option.is_flag and option.default is not None and "UNSET" not in str(option.default):
        default = str(option.default)
    more = " May be given several times." if option.multiple else ""
    return (
        ", ".join(f"`{n}`" for n in names),
        code(shown) if shown else "",
        "**required**" if option.required else cell(default),
        cell(text + more),
    )


# --- settings ---------------------------------------------------------------------------------------------------------


def kind(annotation: Any) -> str:
    """The type of a setting in words of TOML."""
    if hasattr(annotation, "__metadata__"):
        return kind(get_args(annotation)[0])
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(kind(part) for part in args if part is not type(None))
    if origin is Literal:
        return ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in args)
    if origin is tuple and args[-1] is Ellipsis:
        return f"list of {kind(args[0])}"
    if origin is tuple:
        return f"[{', '.join(map(kind, args))}]"
    if origin is dict:
        return f"table of {kind(args[1])}"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", object: "any value"}
    return names.get(
        annotation, "table" if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else str(annotation)
    )


def limits(metadata: list[Any]) -> str:
    """What a value is to keep to."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least", "pattern": "of the form"}
    return ", ".join(
        f"{sign} {getattr(rule, name)}"
        for rule in metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    )


def value(default: Any) -> str:
    """A default as TOML."""
    if default is PydanticUndefined:
        return "**required**"
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, str):
        return f'"{default}"'
    if isinstance(default, tuple):
        return f"[{', '.join(map(value, default))}]"
    return "{}" if default == {} else str(default)


def settings_table(model: type[BaseModel]) -> str:
    """The settings of a class: name, type with limits, default, meaning. Tables within it have their own."""
    rows = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            continue
        text, _, told = (field.description or "").partition(" [default: ")
        rules = limits(field.metadata) or limits(list(getattr(field.annotation, "__metadata__", ())))
        shown = cell(told.rstrip("]")) if told else code(value(field.default)) if value(field.default) else ""
        required = shown.replace("`**required**`", "**required**")
        rows.append((code(name), cell(kind(field.annotation) + (f", {rules}" if rules else "")), required, cell(text)))
    return table(("key", "type", "default", "is"), rows)


def settings_page() -> str:
    """Sections of `--config`."""
    text = (
        f"# Settings (`--config run.toml`)\n{NOTE}\n"
        "A table a section. On the command line each is an option: `least_area` of `[dates]` is `--least-area`. Sizes, areas and "
        "times have their unit in the text: `2GB`, `0.5ha`, `400m2`, `10m` (minutes), `30s`.\n"
    )
    for name, field in Config.model_fields.items():
        kindly = type(field.default)
        heading = HEADINGS[name].split(" (")[0]
        text += f"\n## [{name}]: {heading}\n\n{inspect.cleandoc(kindly.__doc__ or '')}\n\n{settings_table(kindly)}"
    return text


def tables_of(model: type[BaseModel]) -> Iterator[tuple[str, bool, type[BaseModel]]]:
    """Tables of a recipe: name, whether there may be several, class."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        several = get_origin(annotation) is tuple
        inner = get_args(annotation)[0] if several else annotation
        if inspect.isclass(inner) and issubclass(inner, BaseModel):
            yield name, several, inner


def recipe_page() -> str:
    """Fields of a recipe."""
    text = (
        f"# Recipe of a training (`train.toml`)\n{NOTE}\n`geoseg train --init train.toml` writes one to begin from.\n\n"
        f"{settings_table(Recipe)}"
    )
    for name, several, inner in tables_of(Recipe):
        heading = f"[[{name}]]" if several else f"[{name}]"
        text += f"\n## {heading}\n\n{inspect.cleandoc(inner.__doc__ or '')}\n\n{settings_table(inner)}"
    return text


# --- files ------------------------------------------------------------------------------------------------------------


def polygons_page() -> str:
    """Attributes of polygons by the kind of map."""
    kinds = {
        "all maps": feature_schema(),
        "objects": feature_schema(objects=True),
        "changes": feature_schema(changes=True),
        "mosaics": feature_schema(origins=True),
    }
    rows, seen = [], set()
    for of, schema in kinds.items():
        for field in schema:
            if field.name not in seen and field.name in ALIASES:
                seen.add(field.name)
                null = "" if not field.nullable else ", may be null"
                rows.append((code(field.name), f"{field.type}{null}", of, cell(ALIASES[field.name]), cell(MEANINGS[field.name])))
    assert seen == set(ALIASES), set(ALIASES) - seen
    return (
        f"# Attributes of polygons\n{NOTE}\n"
        "The same in `polygons.geojson`, `.gpkg` (layer `polygons`), `.fgb` and `.parquet`. GeoJSON is in WGS 84, the others in "
        "the CRS of the scene.\n\n" + table(("column", "type", "in", "alias in a GIS", "is"), rows)
    )


def files_page() -> str:
    """Files of a map, and the codes of its pixels."""
    rows = [(code(name if "." in name else f"{name}.*"), cell(title)) for name, title in TITLES.items()]
    text = f"# Files of a map\n{NOTE}\n{table(('file', 'is'), rows)}\n## Codes of pixels\n\n"
    doc = {
        name: (after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else "")
        for name, after in _documented(ast.parse(Path(codes.__file__).read_text(encoding="utf-8")))
    }
    constants = [(name, number) for name, number in vars(codes).items() if name.isupper() and isinstance(number, int)]
    rows = [(code(name), str(number), cell(doc.get(name, ""))) for name, number in constants]
    return text + table(("name", "value", "is"), rows)


def _documented(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, after


# --- errors -----------------------------------------------------------------------------------------------------------


def sentence(node: ast.expr) -> str | None:
    """The text of a message, with … for what it is told; None where it is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_told(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [sentence(node.left), sentence(node.right)]
        return "".join(part or "…" for part in parts) if any(parts) else None
    return None


def _told(part: ast.expr) -> str:
    """A part of a message: its text, the flag of a setting that it names, or an ellipsis."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    call = part.value if isinstance(part, ast.FormattedValue) else part
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "setting":
        texts = [str(given.value) if isinstance(given, ast.Constant) else "…" for given in call.args]
        return " ".join(["--" + texts[0].replace("_", "-"), *texts[1:]])
    return "…"


def sentences() -> dict[str, list[tuple[str, str]]]:
    """What the code says where it raises an error of geoseg: (text, module) by class."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for package in ("geoseg", "pipeline", "flows"):
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                    name, text = node.exc.func.id, sentence(node.exc.args[0]) if node.exc.args else None
                    if name in errors.__all__ and text and text.strip("… :"):
                        found[name].add((text, module))
    return {name: sorted(texts) for name, texts in found.items()}


def errors_page() -> str:
    """Classes of errors, and the sentences of each."""
    text = (
        f"# Every refusal\n{NOTE}\n… stands for a name or a value. What to do about the commonest: "
        "[troubleshooting](../troubleshooting.md).\n"
    )
    for name, texts in sorted(sentences().items()):
        this: type[errors.GeosegError] = getattr(errors, name)
        ends = "Exit code 2: nothing was started." if issubclass(this, errors.UsageError) else "Exit code 1."
        passes = " It may pass by itself." if this.transient else ""
        rows = [(cell(text), code(module)) for text, module in texts]
        text += f"\n## {name}\n\n{inspect.cleandoc(this.__doc__ or '')} {ends}{passes}\n\n{table(('sentence', 'said by'), rows)}"
    return text


# --- Python -----------------------------------------------------------------------------------------------------------


def python_page() -> str:
    """Names of `import geoseg`, for mkdocstrings; what verbs take stands in tables, made from their commands."""
    text = (
        f'# Python\n{NOTE}\nEach verb takes the settings of its command as keywords: `--min-area 0.5ha` is `min_area="0.5ha"`. '
        "What is not given has the default of the command.\n\n## Verbs\n"
    )
    found = {name: getattr(geoseg, name) for name in geoseg.__all__ if name != "__version__"}
    verbs = [name for name, this in found.items() if this.__module__.startswith("pipeline.")]
    for name in verbs:
        text += entry(found[name]) + keywords_of(found[name])
    text += "\n## What the verbs return\n" + entry(SceneMap) + entry(Maps) + entry(Vectorized) + entry(Review)
    text += "\n## For those who have arrays\n"
    return text + "".join(entry(this) for name, this in found.items() if name not in verbs)


def keywords_of(verb: Any) -> str:
    """A table of the settings that a verb takes, folded; nothing for a verb that takes none."""
    if "settings" not in inspect.signature(verb).parameters:
        return ""
    name = CALLED.get(verb.__name__, verb.__name__)
    kinds = getattr(keywords, str(inspect.signature(verb).parameters["settings"].annotation)[len("Unpack[") : -1]).__annotations__
    texts = {}
    for option in command(name).params:
        if isinstance(option, click.Option):
            longest = max(option.opts, key=len).removeprefix("--").replace("-", "_")
            own = option.key if isinstance(option, SectionOption) else longest
            texts[own] = " ".join((option.help or "").replace(QUOTING, "").split())
    rows = [(code(key), code(kind.__forward_arg__), cell(texts.get(key, ""))) for key, kind in kinds.items()]
    body = table(("keyword", "type", "is"), rows).replace("\n", "\n    ").rstrip()
    return f'\n??? note "Settings, as of `geoseg {name}`"\n\n    {body}\n'


def entry(this: Any) -> str:
    """A function or a class, for mkdocstrings."""
    return f"\n::: {this.__module__}.{this.__name__}\n    options:\n      heading_level: 3\n"


def pages() -> Mapping[str, str]:
    """All pages by path."""
    made = {f"reference/cli/{name}.md": cli_page(name) for name in COMMANDS}
    rows = [(f"[geoseg {name}]({name}.md)", cell(text)) for name, text in COMMANDS.items()]
    ends = [("0", "all done"), ("1", "something failed, the rest is done"), ("2", "wrong usage; nothing was started")]
    ends += [("130, 143", "stopped by Ctrl-C or SIGTERM; the same command goes on")]
    made["reference/cli/index.md"] = (
        f"# Commands\n{NOTE}\n{table(('command', 'does'), rows)}\n## Exit codes\n\n{table(('code', 'means'), ends)}"
    )
    return made | {
        "reference/index.md": INDEX,
        "reference/settings.md": settings_page(),
        "reference/recipe.md": recipe_page(),
        "reference/polygons.md": polygons_page(),
        "reference/files.md": files_page(),
        "reference/errors.md": errors_page(),
        "reference/python.md": python_page(),
    }


def main() -> None:
    """Write the pages below a folder."""
    for name, text in pages().items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
