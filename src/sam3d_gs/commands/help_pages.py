"""What --help prints: plain text in which nothing is cut, however narrow the terminal.

Typer's own pages are tables of up to six columns. With our long names they do not fit into 80 characters, and the names
of options end in an ellipsis. Here each option has a line of its own where it is long, and its help beside or below it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

WIDTH = 100  # of a page in a wider terminal


class HelpCommand(TyperCommand):
    """A command whose options stand below the headings of their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                heading = getattr(parameter, "rich_help_panel", None) or usual
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class HelpGroup(TyperGroup):
    """A group that lists its commands with the whole first paragraph of their help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        records = [(name, (c.help or "").partition("\n\n")[0]) for name, c in commands if c and not c.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(records)


class HelpTyper(typer.Typer):
    """A Typer with these pages; without arguments it prints them too."""

    def __init__(self, **settings: Any) -> None:
        context = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH}
        super().__init__(
            cls=HelpGroup, rich_markup_mode=None, no_args_is_help=True, context_settings=context, **settings
        )

    def command(self, *args: Any, **settings: Any) -> Callable[..., Any]:
        return super().command(*args, cls=HelpCommand, context_settings=self.info.context_settings, **settings)
