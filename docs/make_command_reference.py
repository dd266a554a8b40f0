"""Write docs/commands.md, the command reference, from the program itself.

python docs/make_command_reference.py            # write it
python docs/make_command_reference.py --check    # exit 1 if it is stale
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from sam3d_gs.cli import app

PAGE = Path(__file__).with_name("commands.md")
PROGRAM = "sam3d-gs"
HEAD = """# Command reference

*Generated from the program by `docs/make_command_reference.py`.*

Every command takes `--help`. Options before the command: `--version`, `--quiet` (`-q`, only warnings and results) and
`--verbose` (`-v`). A photo may be given by its file or, where the text says so, by its name in the workspace.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    arguments = parser.parse_args()
    text = reference()
    if not arguments.check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PAGE} is stale. Run `python {Path(__file__).name}` in its folder.")


def reference() -> str:
    """The whole page as Markdown."""
    commands = list(all_commands(typer.main.get_command(app), PROGRAM))
    overview = ["| command | what it does |", "| --- | --- |"]
    overview += [f"| [`{name}`](#{anchor(name)}) | {cell(first_line(command))} |" for name, command in commands]
    return "\n".join([HEAD, *overview, "", *(section(name, command) for name, command in commands)])


def all_commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Full name and command of every leaf, in the order of `--help`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from all_commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def section(name: str, command: Any) -> str:
    """One command: usage, help, a table of options for each panel."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden and p.name != "help"]
    usage = " ".join([name, *(usage_of(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## {name}", "", f"```\n{usage}\n```", "", command.help or "", ""]
    if arguments:
        lines += [*(f"`{p.metavar or p.name.upper()}`: {cell(p.help)}" for p in arguments), ""]
    for panel in dict.fromkeys([None, *(getattr(p, "rich_help_panel", None) for p in options)]):
        lines += [f"*{panel}*", ""] if panel else []
        lines += ["| option | meaning | default |", "| --- | --- | --- |"]
        lines += [row(p) for p in options if getattr(p, "rich_help_panel", None) == panel]
        lines += [""]
    return "\n".join(lines)


def usage_of(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()) + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def row(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if not option.is_flag:
        names += f" {cell(option.metavar or placeholder(option))}"
    more = " May be repeated." if option.multiple else ""
    more += f" Environment variable: `{option.envvar}`." if option.envvar else ""
    return f"| {names} | {cell(option.help)}{more} | {default(option)} |"


def placeholder(option: Any) -> str:
    """What stands for the value; from the name, as types look different in each version of Typer."""
    if isinstance(option.default, (int, float)):
        return "N"
    return str(option.opts[0]).rsplit("-", 1)[-1].upper()


def default(option: Any) -> str:
    """What an option is when it is not given; a dash for nothing."""
    value = option.default
    if value is True:
        return "on"
    plain = isinstance(value, (str, int, float, Path)) and value is not False and str(value) != ""
    return f"`{value}`" if plain else "-"


def first_line(command: Any) -> str:
    return str(command.help or "").strip().splitlines()[0]


def anchor(name: str) -> str:
    return name.replace(" ", "-")


def cell(text: str | None) -> str:
    """Text that cannot break a table."""
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
