"""Options of a command that belong together, handed over as one frozen value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import wraps

__all__ = ["gathered"]


def gathered(**kinds: type) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Hand options over in groups: the parameter of that name gets a dataclass whose fields are the options' names.

    Stands right above the function, below all options.
    """

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @wraps(function)
        def command(**options: object) -> int:
            groups = {
                name: kind(**{field.name: options.pop(field.name) for field in dataclasses.fields(kind)})
                for name, kind in kinds.items()
            }
            return function(**options, **groups)

        return command

    return decorate
