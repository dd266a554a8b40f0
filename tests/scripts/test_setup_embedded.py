"""envs/setup_embedded.sh with a fake Python, pip and uv."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scripts.script_place import Place

SETUP = "envs/setup_embedded.sh"
TORCH = "torch==2.13.0"
TORCHVISION = "torchvision==0.28.0"


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_uv_installs_torch_on_linux(embedded: Place) -> None:
    (embedded.root / ".venv" / ".sam3d_gs" / "embedded").unlink()
    assert embedded.run(SETUP).returncode == 0
    python = f"{embedded.root}/.venv/bin/python"
    assert [call.removeprefix("--disable-pip-version-check --no-input ") for call in embedded.pip_calls()] == [
        "install uv",
        f"pip install --python {python} --torch-backend=cpu {TORCH}",
        f"install -e {embedded.root}[embedded]",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "platform"),
    [
        ("global.find-links='/some/wheels'\n", "Linux x86_64"),
        (
            "global.find-links='/some/wheels'\n" + "global.more='x'\n" * 10_000,
            "Linux x86_64",
        ),  # more than a pipe's buffer
        (":env:.extra-index-url='https://example.invalid'\n", "Linux x86_64"),
        ("", "Darwin arm64"),
        ("", "Linux aarch64"),
    ],
    ids=["find-links", "long", "extra-index", "macOS", "ARM"],
)
def test_pip_installs_torch_if_it_has_its_own_sources(place: Place, config: str, platform: str) -> None:
    place.add_python("python3.12")
    place.give_order("pip-config", config)
    assert place.run(SETUP, FAKE_PLATFORM=platform).returncode == 0
    calls = place.pip_calls()
    assert calls[0].endswith(f"install {TORCH}")
    assert len(calls) == 2


def test_pip_replaces_a_failing_uv_with_a_warning(place: Place) -> None:
    place.add_python("python3.12")
    place.give_order("no-uv")
    done = place.run(SETUP)
    assert done.returncode == 0
    assert "WARNING: uv could not install the CPU build of torch" in done.stderr
    assert place.pip_calls()[2].endswith(f"install {TORCH}")


def test_the_second_call_does_nothing(embedded: Place) -> None:
    done = embedded.run(SETUP)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert embedded.calls(None) == []


@pytest.mark.slow
def test_an_extra_is_installed_once_and_keeps_the_others(embedded: Place) -> None:
    assert embedded.run(SETUP, "dev").returncode == 0
    assert embedded.pip_calls()[-1].endswith("[embedded,dev]")
    count = len(embedded.pip_calls())
    for arguments in ((), ("dev",)):
        embedded.run(SETUP, *arguments)
    assert len(embedded.pip_calls()) == count
    assert not [call for call in embedded.calls(None) if call.program == "venv"]


@pytest.mark.slow
@pytest.mark.parametrize("config", ["", "global.find-links='/some/wheels'\n"], ids=["uv", "pip"])
def test_torchvision_has_the_source_of_torch_and_is_only_for_sam3(place: Place, config: str) -> None:
    place.add_python("python3.12")
    place.give_order("pip-config", config)
    for extras, wheels in (((), TORCH), (("dev",), f"{TORCH} {TORCHVISION}"), (("sam3",), f"{TORCH} {TORCHVISION}")):
        assert place.run(SETUP, *extras).returncode == 0
        assert place.pip_calls()[-2].endswith(f" {wheels}")


def test_a_changed_pyproject_installs_again_into_the_same_environment(embedded: Place) -> None:
    with (embedded.root / "pyproject.toml").open("a") as stream:
        stream.write("# more\n")
    assert embedded.run(SETUP).returncode == 0
    assert {call.program for call in embedded.calls(None)} == {"pip", "uv"}
    count = len(embedded.pip_calls())
    embedded.run(SETUP)
    assert len(embedded.pip_calls()) == count


@pytest.mark.slow
@pytest.mark.parametrize("change", ["new Python", "no Python", "moved"])
def test_an_outdated_environment_is_created_again(embedded: Place, change: str) -> None:
    leftover = embedded.root / ".venv" / "leftover"
    leftover.touch()
    if change == "new Python":
        (embedded.root / ".venv" / "version").write_text("3.13\n")
    elif change == "no Python":
        (embedded.root / ".venv" / "bin" / "python").unlink()
    else:
        embedded.root = embedded.root.rename(embedded.base / "moved clone")
        leftover = embedded.root / ".venv" / "leftover"
    assert embedded.run(SETUP).returncode == 0
    assert "venv" in {call.program for call in embedded.calls(None)}
    assert not leftover.exists()
    assert embedded.run(SETUP).stderr == ""


def test_a_failure_names_the_log_and_the_next_call_starts_from_scratch(place: Place) -> None:
    place.add_python("python3.12")
    place.give_order("no-network")
    done = place.run(SETUP)
    assert done.returncode == 1
    log = place.root / ".cache" / "setup_embedded.log"
    assert str(log) in done.stderr
    assert "ERROR: no network" in log.read_text()
    leftover = place.root / ".venv" / "leftover"
    leftover.touch()
    place.cancel_order("no-network")
    assert place.run(SETUP).returncode == 0
    assert not leftover.exists()


def test_a_killed_set_up_starts_from_scratch(place: Place) -> None:
    place.add_python("python3.12")
    place.give_order("slow")
    command = [str(place.tools / "bash"), str(place.root / SETUP)]
    process = subprocess.Popen(command, env=place.environ(), start_new_session=True, stderr=subprocess.DEVNULL)
    wait_for(lambda: bool(place.pip_calls()))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
    place.cancel_order("slow")
    (place.root / ".venv" / "leftover").touch()
    done = place.run(SETUP)
    assert done.returncode == 0, done.stderr
    assert not (place.root / ".venv" / "leftover").exists()
    assert place.run(SETUP).stderr == ""


def test_simultaneous_set_ups_install_once(place: Place) -> None:
    if not (place.tools / "flock").exists():
        pytest.skip("flock is not installed")
    place.add_python("python3.12")
    place.give_order("slow")
    command = [str(place.tools / "bash"), str(place.root / SETUP)]
    both = [subprocess.Popen(command, env=place.environ(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    words = [process.communicate(timeout=30)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len([call for call in place.pip_calls() if "-e" in call]) == 1
    assert "waiting" in "".join(words)


def test_an_existing_environment_is_used_and_never_deleted(place: Place) -> None:
    place.add_venv(place.root / ".venv", program=False)
    mine = place.root / ".venv" / "mine"
    mine.touch()
    place.give_order("no-network")
    assert place.run(SETUP).returncode == 1
    place.cancel_order("no-network")
    assert place.run(SETUP).returncode == 0
    assert mine.exists()
    assert "venv" not in {call.program for call in place.calls(None)}
    assert place.run(SETUP).stderr == ""


def test_the_newest_supported_python_is_chosen(place: Place) -> None:
    for name in ("python3.10", "python3.12", "python3"):
        place.add_python(name)
    assert place.run(SETUP).returncode == 0
    assert (place.root / ".venv" / "version").read_text() == "3.12\n"


def test_the_variable_python_chooses_another(place: Place) -> None:
    for name in ("python3.10", "python3.12"):
        place.add_python(name)
    other = place.tools / "my tools" / "python3.11"
    place.add_python("my tools/python3.11")
    assert place.run(SETUP, PYTHON=str(other)).returncode == 0
    assert (place.root / ".venv" / "version").read_text() == "3.11\n"


@pytest.mark.parametrize("version", ["3.9", "3.15"])
def test_the_error_for_an_unsupported_python_names_supported_ones(place: Place, version: str) -> None:
    place.add_python("python3")
    place.give_order("version", version)
    done = place.run(SETUP)
    assert done.returncode == 1
    assert "is not Python 3.10 to 3.14" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_venv_module_names_the_debian_package(place: Place) -> None:
    place.add_python("python3.11")
    place.give_order("no-venv")
    done = place.run(SETUP)
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (place.root / ".venv").exists()


def test_state_files_are_inside_the_environment(embedded: Place) -> None:
    new = {path.name for path in Path(embedded.root).iterdir()} - {"envs", "assets", "pyproject.toml"}
    assert {name for name in new if not name.endswith(".sh")} == {".venv", ".cache"}
