"""The documentation and the program say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer

import sam3d_gs
from sam3d_gs.cli import app
from sam3d_gs.engines.registry import default_of, specs_of
from sam3d_gs.options import PROFILES, STAGES_WITH_ENGINES
from tests.docs.pages import PAGES, ROOT, blocks, code_spans, command_lines, links, text_of

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SCRIPTS = {  # script -> its options; None: those of `sam3d-gs run`, and its own
    "run_pipeline.sh": {"--overlap"},
    "run_agent_with_vllm.sh": set(),
    "run_sam3d_from_masks.sh": set(),
}
# Options of scripts and of other programs that the prose names.
OTHERS = {"--env", "--with", "--servers", "--fast", "--up-axis", "--enforce-eager", "--overlap", "--help"}
PICTURES_MAX_KB = 150
ALL_PICTURES_MAX_KB = 2000


def options_of(command: Any) -> set[str]:
    return {"--help", "-h"} | {name for p in command.params for name in (*p.opts, *p.secondary_opts)}


def leaf(words: list[str]) -> tuple[str, Any]:
    """The command that `words` name, after the options that stand before it, and its full name."""
    names = [word for word in words if not word.startswith("-")]
    command = COMMANDS[names[0]]
    if hasattr(command, "commands") and len(names) > 1:
        return f"{names[0]} {names[1]}", command.commands[names[1]]
    return names[0], command


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 120


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert parameter.help, f"{name} --{parameter.name} has no help"


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_documentation_exist_with_their_options(page: str) -> None:
    for words in command_lines(page):
        program, *rest = words
        given = {word.split("=")[0] for word in rest if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)}
        if program == "sam3d-gs" and rest and any(not word.startswith("-") for word in rest):
            name, command = leaf(rest)
            unknown = given - options_of(command) - {"-v", "-q", "--verbose", "--quiet"}
            assert not unknown, f"{page}: sam3d-gs {name} has no {unknown}"
        elif program == "bash" and rest[0] in SCRIPTS:
            unknown = given - options_of(COMMANDS["run"]) - SCRIPTS[rest[0]]
            assert not unknown, f"{page}: {rest[0]} has no {unknown}"
        if program in ("bash", "python") and rest[0].endswith((".sh", ".py")) and "/" in rest[0]:
            assert (ROOT / rest[0]).exists(), f"{page}: {rest[0]} is not there"


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith(("docs", "README"))])
def test_options_that_the_prose_names_exist(page: str) -> None:
    leaves = [
        sub for command in COMMANDS.values() for sub in (getattr(command, "commands", {}) or {"": command}).values()
    ]
    known = set().union(*map(options_of, leaves)) | OTHERS | {"--version", "--quiet", "-q", "--verbose", "-v"}
    named = {span.split()[0].split("=")[0] for span in code_spans(page) if re.match(r"--?[a-z]", span)}
    assert named <= known, f"{page}: {named - known}"


@pytest.mark.parametrize("stage", STAGES_WITH_ENGINES)
def test_readme_and_engines_page_name_exactly_the_engines_there_are(stage: str) -> None:
    row = re.search(rf"^\| `{stage}` \|[^|]*\|([^|]*)\|", text_of("README.md"), re.MULTILINE)
    assert row
    assert set(re.findall(r"`([\w-]+)`", row[1])) == {spec.name for spec in specs_of(stage)}
    rows = re.findall(rf"^\| {stage} \| `([\w-]+)` \|", text_of("docs/engines.md"), re.MULTILINE)
    assert sorted(rows) == sorted(spec.name for spec in specs_of(stage))


@pytest.mark.parametrize("profile", PROFILES)
def test_the_engines_page_has_the_profiles(profile: str) -> None:
    row = "".join(f" `{default_of(stage, profile).name}` |" for stage in STAGES_WITH_ENGINES)
    assert f"\n| `{profile}` |{row}\n" in text_of("docs/engines.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in links(page):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_in_the_documentation_uses_what_the_package_has(page: str) -> None:
    code = blocks(page, "python")
    assert code
    for block in code:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sg":
                assert hasattr(sam3d_gs, node.attr), f"{page}: sam3d_gs has no {node.attr}"


def test_the_tree_in_contributing_names_what_is_there() -> None:
    text = text_of("CONTRIBUTING.md")
    package = ROOT / "src" / "sam3d_gs"
    for path in package.iterdir():
        if path.name.startswith(("__", ".")) or path.name == "py.typed":
            continue
        name = path.name + "/" if path.is_dir() else path.name
        assert re.search(rf"(^|\s){re.escape(name)}(\s|$)", text, re.MULTILINE), f"CONTRIBUTING.md does not name {name}"


def test_the_pictures_are_small() -> None:
    sizes = {path: path.stat().st_size / 1000 for path in (ROOT / "docs" / "images").rglob("*") if path.is_file()}
    assert max(sizes.values()) <= PICTURES_MAX_KB, max(sizes, key=lambda path: sizes[path])
    assert sum(sizes.values()) <= ALL_PICTURES_MAX_KB


def test_every_picture_is_shown_somewhere() -> None:
    shown = {Path((ROOT / page).parent / target).resolve() for page in PAGES for target in links(page)}
    shown.add(ROOT / "docs" / "images" / "favicon.png")
    assert {path for path in (ROOT / "docs" / "images").rglob("*") if path.is_file()} <= shown
