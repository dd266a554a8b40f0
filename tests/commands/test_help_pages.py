"""--help of every command: nothing is cut at any width, options stand below their headings, and it starts fast."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from sam3d_gs.cli import app
from sam3d_gs.commands.help_pages import WIDTH


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every group and command, with the words that call it."""
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


COMMANDS = list(commands(typer.main.get_command(app)))


Page = Callable[[tuple[str, ...], int], str]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Page:
    """The help of a command as it is printed to so many columns. (CliRunner always has 80.)"""

    def printed(words: tuple[str, ...], columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        typer.main.get_command(app).main([*words, "--help"], prog_name="sam3d-gs", standalone_mode=False)
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 300])
@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) or "all" for words, _ in COMMANDS])
def test_every_name_can_be_read_whole(page: Page, words: tuple[str, ...], command: Any, columns: int) -> None:
    text = page(words, columns)
    read = set(re.findall(r"[\w-]+", text))
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    assert names - read == set()
    assert "…" not in text
    if columns >= 60:  # below, a long word such as the name of a model decides
        assert max(map(len, text.splitlines())) <= min(columns, WIDTH)
    for name, inner in getattr(command, "commands", {}).items():
        first = " ".join(inner.help.partition("\n\n")[0].split())
        assert f" {name} {first}" in " ".join(text.split())


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) or "all" for words, _ in COMMANDS])
def test_help_texts_are_whole(page: Page, words: tuple[str, ...], command: Any) -> None:
    text = "".join(page(words, 80).split())
    assert "".join((command.help or "").split()) in text
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            assert "".join((parameter.help or "").split()) in text, parameter.name


def test_options_stand_below_their_headings(page: Page) -> None:
    lines = page(("run",), 80).splitlines()
    heading = {}
    for line in lines:
        if re.match(r"\S.*:$", line):
            current = line
        if found := re.match(r"  (?:-\w, )?(--[\w-]+)", line):
            heading[found[1]] = current
    assert heading["--stages"] == heading["--help"] == "Options:"
    assert heading["--turntable"] == "Results:"
    assert heading["--base-url"] == "Phrases: engine openai:"


def test_without_a_terminal_there_are_no_escapes_and_nothing_slow_is_imported() -> None:
    code = """
import sys
from sam3d_gs.cli import main
sys.argv = ["sam3d-gs", "run", "--help"]
try:
    main()
except SystemExit:
    print([name for name in ("rich", "numpy", "PIL") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    assert done.stdout.endswith("\n[]\n")
