"""The documentation and the program say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from sam3d_gs.cli import app
from sam3d_gs.engines.registry import STAGES_WITH_ENGINES, specs_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_in_the_readme_and_has_help(name: str) -> None:
    assert f"sam3d-gs {name} " in README
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert parameter.help, f"{name} --{parameter.name} has no help"


@pytest.mark.parametrize("stage", STAGES_WITH_ENGINES)
def test_the_readme_names_exactly_the_engines_there_are(stage: str) -> None:
    row = re.search(rf"^\| `{stage}` \|[^|]*\|([^|]*)\|", README, re.MULTILINE)
    assert row
    assert set(re.findall(r"`([\w-]+)`", row[1])) == {spec.name for spec in specs_of(stage)}


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/files.md", "benchmarks/README.md"])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{document} links to {target}"


def test_the_tree_in_contributing_names_what_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "sam3d_gs"
    for path in package.glob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            assert re.search(rf"\b{path.stem}\b", text), f"CONTRIBUTING.md does not name {path.name}"
