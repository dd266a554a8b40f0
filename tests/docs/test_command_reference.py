"""docs/commands.md is what the program says of itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import ROOT


@pytest.fixture
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_command_reference", ROOT / "docs" / "make_command_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_reference_is_up_to_date(maker: ModuleType) -> None:
    stale = "docs/commands.md is stale: run `python docs/make_command_reference.py`"
    assert maker.PAGE.read_text(encoding="utf-8") == maker.reference(), stale


def test_it_has_every_command_and_every_option(maker: ModuleType) -> None:
    text = maker.reference()
    commands = dict(maker.all_commands(maker.typer.main.get_command(maker.app), maker.PROGRAM))
    assert {"sam3d-gs run", "sam3d-gs checkpoints verify"} <= set(commands)
    for name, command in commands.items():
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert f"`{parameter.opts[0]}`" in section, f"{name}: {parameter.opts[0]}"


def test_check_fails_on_a_stale_page(maker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "commands.md"
    page.write_text(maker.reference().replace("--seed", "--sead"), encoding="utf-8")
    monkeypatch.setattr(maker, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["make_command_reference.py", "--check"])
    with pytest.raises(SystemExit, match="stale"):
        maker.main()
    page.write_text(maker.reference(), encoding="utf-8")
    maker.main()
