"""The command line on odd terminals, with odd names, in odd places: one line, the right exit code, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs import manifest as manifests
from sam3d_gs.commands.terminal import printable
from sam3d_gs.errors import command
from sam3d_gs.manifest import Manifest, StageRecord
from sam3d_gs.masks.png import mask_png
from sam3d_gs.workspace import Workspace

pytestmark = pytest.mark.slow


def _run(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which S is the command."""
    script = f'S() {{ "$PYTHON" -m sam3d_gs "$@"; }}; {script}'
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, check=False)


def _mask(path: Path) -> None:
    path.parent.mkdir()
    mask = np.zeros((48, 64), bool)
    mask[12:36, 4:28] = True
    path.write_bytes(mask_png(mask))


def _one_line(result: subprocess.CompletedProcess[bytes], code: int) -> str:
    text = result.stderr.decode("utf-8", "surrogateescape")
    assert "Traceback" not in text
    assert result.returncode == code, text
    assert len(text.splitlines()) <= 1, text
    return text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace in which one photo failed with a message full of control characters."""
    record = StageRecord("failed", "fake", {}, {}, errors={"stage": "\x1b[2Jgone\x9b1m\u202eback\nsecond"})
    photo = {"name": "\U0001f986 caf\xe9", "file": "d.png", "sha256": "0" * 64, "width_px": 6, "height_px": 4}
    manifests.save(Workspace(tmp_path, "duck").manifest, Manifest(photo, {"masks": record}))
    return tmp_path


def test_control_characters_of_files_do_not_reach_the_terminal(root: Path) -> None:
    result = _run("S status", root)
    _one_line(result, 0)
    text = result.stdout.decode()
    assert "\\x1b[2Jgone\\x9b1m\\u202eback second" in text
    assert not set(text) & {"\x1b", "\x9b", "\u202e"}
    assert printable("a\tb\nc") == "a\tb\nc"


def test_json_is_ascii_and_exact(root: Path) -> None:
    result = _run("S status --json", root, PYTHONIOENCODING="ascii")
    _one_line(result, 0)
    [state] = json.loads(result.stdout)
    assert state["photo"]["name"] == "\U0001f986 caf\xe9"
    assert state["stages"]["masks"]["errors"]["stage"].startswith("\x1b[2J")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_the_terminal_cannot_show_are_escaped(root: Path, encoding: str) -> None:
    result = _run("S status", root, PYTHONIOENCODING=encoding)
    _one_line(result, 0)
    assert (b"\\U0001f986" in result.stdout) == (encoding != "utf-8")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("S status 2>&-", 0),
        ("S status >&-", 0),
        ("S status <&- >&- 2>&-", 0),
        ("S status gone 2>&-", 1),
        ("S status gone 2>/dev/full", 1),
        ("S status >/dev/full", 1),
        ("S status --json >/dev/full", 1),
        ("S --help >/dev/full", 1),
        ("mkdir g && cd g && rmdir ../g && S status", 1),
        ("mkdir g && cd g && rmdir ../g && S masks x.png", 1),
        ("S status $(printf 'n%.0s' {1..400})", 1),
        ("S clean $(printf 'n%.0s' {1..400})", 1),
        ("S export $(printf 'n%.0s' {1..400})", 1),
        ("S masks $(printf 'n%.0s' {1..400}).png", 1),
        ("S status $(printf 'caf\\xe9')", 1),
        ("S phrases $(printf 'caf\\xe9.png')", 1),
        ("S objects d.png/x.png", 1),
        ("S objects .", 1),
        ("S objects /dev/null", 1),
    ],
)
def test_one_line_and_the_right_code(root: Path, script: str, code: int) -> None:
    (root / "d.png").write_bytes(b"")
    _one_line(_run(script, root), code)


def test_a_closed_stderr_is_no_place_for_files(root: Path) -> None:
    """The next file that is opened must not get its number: warnings would be written into the file."""
    code = (
        "import os; from sam3d_gs.commands.terminal import open_streams; open_streams();"
        "handle = os.open('opened', os.O_CREAT | os.O_WRONLY); assert handle > 2; print('x')"
    )
    subprocess.run([sys.executable, "-c", f"import os; os.closerange(0, 3)\n{code}"], cwd=root, check=True)
    assert (root / "opened").read_bytes() == b""


def test_photos_with_odd_names_are_worked_on(root: Path, picture: Path) -> None:
    _mask(root / "m" / "red.png")
    for name in (b"caf\xe9.png", "\U0001f986.png".encode(), b"a\x1b[31mb.png", b"new\nline.png", b"-v.png"):
        shutil.copy(os.fsencode(picture), os.path.join(os.fsencode(root), name))
    result = _run('for p in ./*.png; do S -q masks "$p" --masks m || exit; done; S status --json', root)
    assert b"Traceback" not in result.stderr
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout[result.stdout.index(b"[\n") :])) == 7


def test_suggested_commands_are_quoted() -> None:
    assert (
        command("masks", Path("x;$(touch pwned).png"), "--force") == "`sam3d-gs masks 'x;$(touch pwned).png' --force`"
    )


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_closed_files_and_folders_are_one_line(root: Path, picture: Path) -> None:
    caps = "-dac_override,-dac_read_search"
    drop = f"setpriv --bounding-set={caps} --inh-caps={caps}" if os.getuid() == 0 else ""
    plain = f'S() {{ {drop} "$PYTHON" -m sam3d_gs "$@"; }}; '
    script = plain + (
        "chmod 000 b.png; mkdir closed; chmod 000 closed;"
        "S masks kitchen.png b.png c.png closed/d.png --masks m; echo code $?;"
        "chmod 000 outputs/master_with_vllm/c; S status; echo code $?; chmod -R u+rwX ."
    )
    _mask(root / "m" / "red.png")
    for name in ("b.png", "c.png"):
        shutil.copy(picture, root / name)
    result = _run(script, root)
    assert b"Traceback" not in result.stderr
    assert result.stdout.count(b"code 3") == 2, (result.stdout, result.stderr)
    assert result.stderr.count(b"Permission denied") == 2
    assert b"manifest.json cannot be read: Permission denied" in result.stdout


def test_a_line_break_in_a_name_makes_no_second_message(root: Path) -> None:
    text = _one_line(_run("S status; S objects $'x\nError: y.png' z.png 2>&1 >&- | wc -l", root), 0)
    assert text == ""
    result = _run("S objects $'x\nError: y.png' z.png", root)
    lines = result.stderr.decode().splitlines()
    assert [line.split(": ")[0] for line in lines] == ["Error in objects of x Error", "Error in objects of z.png"]


def test_one_bad_argument_hides_no_other(root: Path) -> None:
    result = _run("S status duck gone; echo code $?; S status gone; echo code $?", root)
    assert result.stdout.count(b"code 3") == result.stdout.count(b"code 1") == 1
    assert b"masks    failed" in result.stdout
    assert b"gone has not been processed" in result.stdout
    result = _run("S clean gone duck; echo code $?", root)
    assert b"code 3" in result.stdout
    assert _one_line(result, 0).startswith("Error in gone: ")
    assert not Workspace(root, "duck").run_dir.exists()


def test_paths_for_programs_are_exact(root: Path) -> None:
    folder = os.path.join(os.fsencode(root), b"caf\xe9 \x1b[2J")
    shutil.copytree(root, os.fsdecode(folder))
    _one_line(result := _run("S clean duck -w caf*", root), 0)
    assert result.stdout == folder + b"/outputs/master_with_vllm/duck\n"
