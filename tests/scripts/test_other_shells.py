"""The scripts started by other shells than bash, through a symlink, and from a clone made by Git for Windows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.scripts.script_place import REPOSITORY, Place
from tests.scripts.test_shell_style import USER_SCRIPTS

# Shells to start a script with: those that are installed are tried.
SHELLS = {
    "dash": ["dash"],
    "busybox": ["busybox", "sh"],
    "zsh": ["zsh", "-f"],
    "ksh": ["ksh"],
    "mksh": ["mksh"],
    "yash": ["yash"],
    "posix": ["bash", "-o", "posix"],  # as on macOS, whose sh is bash
}
SCRIPTS = [path.relative_to(REPOSITORY).as_posix() for path in USER_SCRIPTS]


def start(command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], **more}
    return subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, timeout=30, check=False)


def shell(name: str) -> list[str]:
    program, *arguments = SHELLS[name]
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return [found, *arguments]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("name", SHELLS)
def test_every_script_starts_in_every_shell(name: str, script: str) -> None:
    done = start([*shell(name), str(REPOSITORY / script), "--help"])
    assert done.returncode == 0, done.stderr
    assert "\nUsage: bash " in done.stdout
    assert done.stderr == ""


def test_arguments_arrive_as_they_were(embedded: Place) -> None:
    photos = ["a b.jpg", "", "*", "--seed=7", "é'\"$x"]
    done = subprocess.run(
        [*shell("dash"), str(embedded.root / "run_pipeline.sh"), *photos],
        env=embedded.environ(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (call,) = embedded.calls()
    assert call.options == photos


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_bash_in_posix_mode_leaves_it(script: str) -> None:
    done = start([shutil.which("bash") or "", str(REPOSITORY / script), "--help"], POSIXLY_CORRECT="1")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_any_bash_one_line_says_so(script: str, tmp_path: Path) -> None:
    done = start([*shell("dash"), str(REPOSITORY / script), "--help"], PATH=str(tmp_path))
    assert done.returncode != 0
    assert done.stderr.endswith("bash: not found\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_symlink_to_a_script_is_followed(script: str, tmp_path: Path) -> None:
    (tmp_path / "first link").symlink_to(REPOSITORY / script)
    (tmp_path / "second").symlink_to("first link")
    done = start([str(tmp_path / "second"), "--help"])
    assert done.returncode == 0, done.stderr
    assert "\nUsage: bash " in done.stdout


@pytest.mark.parametrize("name", [name for name in SHELLS if name != "posix"])
def test_sourcing_the_functions_in_another_shell_says_what_to_do(name: str) -> None:
    done = start([*shell(name), "-c", f'. "{REPOSITORY}/envs/activate.sh"; echo "code $?"'])
    assert done.stdout in ("code 1\n", "")  # some shells end at a failed source
    assert done.stderr == "envs/activate.sh needs bash: start bash, then source it again.\n"


def test_the_functions_can_be_sourced_by_a_bash_called_sh(full: Place, tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to(shutil.which("bash") or "")
    text = '. "$ROOT/envs/activate.sh"; activate_env vllm && echo "$CONDA_DEFAULT_ENV"'
    environ = full.environ(ROOT=str(full.root))
    done = subprocess.run(
        [str(tmp_path / "sh"), "-c", text], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "vllm\n", done.stderr


@pytest.fixture(scope="module")
def windows_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the files as they are now, with the settings of Git for Windows."""
    git, base = shutil.which("git"), tmp_path_factory.mktemp("clone")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")

    def run(*arguments: str, folder: Path = base) -> str:
        done = subprocess.run([git, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"git refuses: {done.stderr.strip()}")
        return done.stdout

    names = run("ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=REPOSITORY).split("\0")
    for name in filter(None, names):
        if (REPOSITORY / name).is_file():
            (base / "origin" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, base / "origin" / name)
    run("init", "-q", "origin")
    run("-c", "core.autocrlf=false", "add", "--all", folder=base / "origin")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    run(*identity, "commit", "-q", "-m", "all", folder=base / "origin")
    run("-c", "core.autocrlf=true", "-c", "core.eol=crlf", "clone", "-q", "origin", "clone")
    return base / "clone"


@pytest.mark.slow
def test_a_clone_of_git_for_windows_is_the_same_bytes(windows_clone: Path) -> None:
    origin = windows_clone.parent / "origin"
    files = [path for path in windows_clone.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert len(files) > 500
    different = [path for path in files if path.read_bytes() != (origin / path.relative_to(windows_clone)).read_bytes()]
    assert different == []


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_of_a_clone_of_git_for_windows_start(windows_clone: Path, script: str) -> None:
    done = start([shutil.which("bash") or "", str(windows_clone / script), "--help"])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_binary_files_are_marked(windows_clone: Path) -> None:
    """Without the mark git guesses, and a small file of numbers may look like text."""
    listed = subprocess.run(
        ["git", "ls-files", "--eol"], cwd=windows_clone, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    guessed = [line for line in listed if line.startswith("i/-text") and "attr/-text" not in line]
    assert guessed == []
