"""Seeds are checked before the work: generators of numbers refuse those below 0, with a trace, at the end of it."""

from __future__ import annotations

import click

from pipeline.cli import COMMANDS, group


def test_no_command_takes_a_seed_below_0() -> None:
    commands = [(name, group.get_command(click.Context(group), name)) for name in COMMANDS]
    seeds = {name: one.type for name, command in commands if command for one in command.params if one.name == "seed"}
    assert "sample" in seeds
    assert [name for name, kind in seeds.items() if getattr(kind, "min", None) != 0] == []
