"""Fixtures of the script tests; see `script_place.Place`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.scripts.script_place import FAKES, REPOSITORY, STAGE_ENVIRONMENTS, TOOLS, Place, executable


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Scripts in a folder with a space and an umlaut in its name, without any environments."""
    base = tmp_path / "fünf Stühle"
    root = base / "my clone"
    shutil.copytree(REPOSITORY / "envs", root / "envs")
    for script in REPOSITORY.glob("*.sh"):
        shutil.copy(script, root)
    (root / "assets").mkdir()
    (root / "assets" / "sample.jpg").touch()
    (root / "pyproject.toml").write_text("[project]\nname = 'sam3d_gs'\n", encoding="utf-8")
    tools = base / "tools"
    tools.mkdir()
    (base / "calls").mkdir()
    (base / "claims").mkdir()
    (base / "home").mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    executable(FAKES / "uname", tools / "uname")
    return Place(root, base)


@pytest.fixture
def full(place: Place) -> Place:
    """With all three stage environments in Conda."""
    place.add_conda(*STAGE_ENVIRONMENTS)
    place.settings["CONDA_SH"] = str(place.conda_sh)
    return place


@pytest.fixture
def embedded(place: Place) -> Place:
    """Without Conda, after the set-up of .venv; its calls are not recorded."""
    place.add_python("python3.12")
    done = place.run("envs/setup_embedded.sh")
    assert done.returncode == 0, done.stderr
    for path in (place.base / "calls").iterdir():
        path.unlink()
    return place
