"""envs/fetch_upstream.sh, and that git ignores results in a submodule's folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.scripts.script_place import REPOSITORY

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
FOLDER = "sam-3d-objects"


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "3",
        "GIT_CONFIG_KEY_0": "protocol.file.allow",
        "GIT_CONFIG_VALUE_0": "always",
        "GIT_CONFIG_KEY_1": "user.name",
        "GIT_CONFIG_VALUE_1": "test",
        "GIT_CONFIG_KEY_2": "user.email",
        "GIT_CONFIG_VALUE_2": "test@example.invalid",
    }
    command = ["git", *arguments] if arguments[0] != "bash" else list(arguments)
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone of a repository that pins an older commit of an upstream."""
    upstream, main = tmp_path / "up stream", tmp_path / "main"
    git(tmp_path, "init", "-q", str(upstream))
    git(upstream, "config", "uploadpack.allowAnySHA1InWant", "true")
    for content in ("pinned", "newer"):
        (upstream / "code.py").write_text(content)
        git(upstream, "add", ".")
        git(upstream, "commit", "-q", "-m", content)
    git(tmp_path, "init", "-q", str(main))
    shutil.copytree(REPOSITORY / "envs", main / "envs")
    shutil.copy(REPOSITORY / ".gitmodules", main)
    git(main, "config", "-f", ".gitmodules", f"submodule.{FOLDER}.url", str(upstream))
    git(main, "add", ".")
    pin = git(upstream, "rev-parse", "HEAD^")
    git(main, "update-index", "--add", "--cacheinfo", f"160000,{pin},{FOLDER}")
    git(main, "commit", "-q", "-m", "main")
    git(tmp_path, "clone", "-q", str(main), "clone")
    return tmp_path / "clone"


def add_result(clone: Path) -> Path:
    result = clone / FOLDER / "gaussians" / "multi" / "photo.ply"
    result.parent.mkdir(parents=True)
    result.write_text("result")
    return result


def test_results_in_the_empty_submodule_do_not_show_in_git(clone: Path) -> None:
    add_result(clone)
    assert git(clone, "status", "--porcelain") == ""
    git(clone, "add", "-A")
    assert git(clone, "status", "--porcelain") == ""


def test_results_next_to_fetched_code_do_not_show_in_git(clone: Path) -> None:
    git(clone, "submodule", "update", "--init", "-q")
    add_result(clone)
    assert git(clone, "status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.parametrize("with_results", [True, False])
def test_fetch_gets_the_pinned_commit_and_keeps_results(clone: Path, with_results: bool) -> None:
    result = add_result(clone) if with_results else None
    git(clone.parent, "bash", "clone/envs/fetch_upstream.sh", FOLDER + "/")
    assert (clone / FOLDER / "code.py").read_text() == "pinned"
    assert result is None or result.read_text() == "result"
    assert git(clone, "status", "--porcelain") == ""
    git(clone, "submodule", "update", "--init")  # git's own command still works
    git(clone, "bash", "envs/fetch_upstream.sh", FOLDER)  # and so does a second call


def test_a_failed_fetch_leaves_the_folder_unchanged(clone: Path) -> None:
    result = add_result(clone)
    git(clone, "config", "-f", ".gitmodules", f"submodule.{FOLDER}.url", str(clone / "nowhere"))
    git(clone, "bash", "envs/fetch_upstream.sh", FOLDER, check=False)
    assert not (clone / FOLDER / ".git").exists()
    assert result.exists()
