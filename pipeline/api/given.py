"""Keywords as settings: those that are given are checked and put where they belong, others keep their defaults."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from geoseg.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.compositing import Method
    from pipeline.config.sections import Config
    from pipeline.segment.progress import Progress

__all__ = ["call", "check_names", "check_use", "config_of", "paths", "progress_of", "text"]

Result = TypeVar("Result")


def check_names(kind: type, given: Mapping[str, object]) -> None:
    """Refuse keywords that a verb does not have.

    Args:
        kind: The TypedDict of the verb's keywords.
        given: The keywords.

    Raises:
        ConfigError: One is unknown; the message names the nearest one.
    """
    known = kind.__annotations__
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ConfigError(
                f"{name}: no such setting; {f'did you mean {near[0]}?' if near else 'there are ' + ', '.join(known)}"
            )


def config_of(kind: type, given: Mapping[str, object], sections: Sequence[str]) -> Config:
    """The configuration of keywords, over that of the TOML file that ``config`` names.

    Raises:
        ConfigError: A keyword is unknown or a value can't work.
    """
    from pipeline.config.sections import Config

    check_names(kind, given)
    changes: dict[str, dict[str, object]] = {}
    for section in sections:
        fields = type(getattr(Config(), section)).model_fields
        changes[section] = {key: _plain(value) for key, value in given.items() if key in fields and value is not None}
    file = given.get("config")
    return Config.parse(changes) if file is None else Config.read(Path(text(file)), changes)


def check_use(
    given: Mapping[str, object],
    config: Config,
    inputs: Sequence[str],
    *,
    mosaic: bool = False,
    composite: Method | None = None,
    mapped: bool = True,
) -> None:
    """Refuse keywords that would do nothing; see ``pipeline.config.idle``.

    Raises:
        ConfigError: There are such.
    """
    from pipeline.config.idle import Purpose, refuse_idle

    purpose = Purpose(inputs=inputs, mosaic=mosaic, composite=composite, mapped=mapped)
    refuse_idle([name for name, value in given.items() if value is not None], config, purpose)


def call(function: Callable[..., Result], *args: object, **given: object) -> Result:
    """Call a function with what is given; None stands for what is not, and leaves the function's own default."""
    return function(*args, **{key: value for key, value in given.items() if value is not None})


def text(path: object) -> str:
    """A path as text.

    Raises:
        ConfigError: It is none.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"{path!r:.80}: is a {type(path).__name__}; give a path as text or as a Path")
    return os.fspath(path)


def paths(given: object) -> list[str]:
    """One path or several, as texts."""
    if isinstance(given, str | os.PathLike) or not isinstance(given, Sequence):
        return [text(given)]
    return [text(path) for path in given]


def progress_of(asked: Progress | bool | None) -> Progress:
    """Display of a run's progress: none, lines or bars on standard error, or an object of the caller's."""
    import sys

    from pipeline.segment.bars import bars
    from pipeline.segment.progress import Lasting, PlainProgress, Quiet

    if asked is None or asked is False:
        return Quiet()
    if asked is True:
        return Lasting(bars() if sys.stderr.isatty() else PlainProgress())
    return asked


def _plain(value: object) -> object:
    """A value as a TOML file has it: paths are texts, sequences lists."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part) for part in value]
    return value
