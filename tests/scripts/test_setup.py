"""envs/setup.sh with a fake Conda, mamba, micromamba, Python and pip."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.scripts.script_place import FAKES, REPOSITORY, Place

SETUP = "envs/setup.sh"
RECIPES = {"vllm": "vllm", "sam3": "sam3", "native": "sam3d-objects", "sam3d-objects": "sam3d-objects"}


@pytest.fixture
def conda(place: Place) -> Place:
    """Conda without environments, and a fake fetch_upstream.sh."""
    place.add_conda()
    place.settings["CONDA_SH"] = str(place.conda_sh)
    stub = 'source "$FAKE_RECORD"\nrecord fetch "$@"\nmkdir -p "$(dirname "$0")/../$1"\n'
    (place.root / "envs" / "fetch_upstream.sh").write_text(stub)
    return place


def steps(place: Place) -> list[str]:
    """The recorded calls, with shortened paths; clears the record."""
    calls = [" ".join([call.program, *call.argv]) for call in place.calls(None)]
    for folder in ("calls", "claims"):
        for path in (place.base / folder).iterdir():
            path.unlink()
    quiet = "--disable-pip-version-check --no-input "
    return [call.replace(str(place.root), "ROOT").replace(quiet, "") for call in calls]


@pytest.mark.slow
def test_conda_creates_each_environment_from_its_file(conda: Place) -> None:
    done = conda.run(SETUP)
    assert done.returncode == 0, done.stderr
    assert steps(conda) == [
        "conda env create -n vllm -f ROOT/envs/vllm.yml",
        "pip install vllm.txt",
        "pip install -e ROOT",
        "conda env create -n sam3 -f ROOT/envs/sam3.yml",
        "pip install sam3.txt",
        "pip install -e ROOT",
        "fetch sam3",
        "pip install --no-deps -e ROOT/sam3",
        "conda env create -n sam3d-objects -f ROOT/envs/native.yml",
        "pip install native.txt",
        "pip install -e ROOT[embedded,native]",
    ]
    again = conda.run(SETUP)
    assert again.returncode == 0
    assert again.stderr.count("is up to date") == 3
    assert steps(conda) == []
    assert conda.run("run_pipeline.sh", "a.jpg").returncode == 0  # full, since all environments exist
    assert [call.stages for call in conda.calls()] == ["phrases", "masks", "objects,scene"]


@pytest.mark.slow
def test_a_changed_recipe_updates_only_its_environment(conda: Place) -> None:
    assert conda.run(SETUP, "--env", "vllm", "--env=native").returncode == 0
    steps(conda)
    with (conda.root / "envs" / "vllm.txt").open("a") as recipe:
        recipe.write("more\n")
    assert conda.run(SETUP, "--env", "vllm", "--env=native").returncode == 0
    assert steps(conda) == [
        "conda env update -n vllm -f ROOT/envs/vllm.yml",
        "pip install vllm.txt",
        "pip install -e ROOT",
    ]


@pytest.mark.slow
def test_the_official_package_is_compiled_and_kept(conda: Place) -> None:
    assert conda.run(SETUP, "--env", "native").returncode == 0
    steps(conda)
    assert conda.run(SETUP, "--env", "sam3d-objects").returncode == 0
    made = steps(conda)
    assert made[0] == "conda env update -n sam3d-objects -f ROOT/envs/sam3d-objects.yml"
    assert made[3:] == [
        "pip --no-input install --no-build-isolation -r ROOT/envs/sam3d-objects-build.txt",
        "fetch sam-3d-objects",
        "pip install --no-deps -e ROOT/sam-3d-objects",
    ]
    done = conda.run(SETUP, "--env", "native")  # would otherwise remove the official package
    assert "sam3d-objects is up to date" in done.stderr
    assert steps(conda) == []


def test_with_venv_creates_venvs(conda: Place) -> None:
    conda.add_python("python3.12")
    done = conda.run(SETUP, "--with", "venv", "--env", "sam3")
    assert done.returncode == 0, done.stderr
    assert steps(conda) == [
        "venv -m venv ROOT/.venvs/sam3",
        "pip install -r ROOT/envs/sam3.txt",
        "pip install -e ROOT",
        "fetch sam3",
        "pip install --no-deps -e ROOT/sam3",
    ]
    assert "up to date" in conda.run(SETUP, "--with=venv", "--env=sam3").stderr
    conda.add_conda("sam3")
    (conda.root / ".venvs" / "sam3" / ".sam3d_gs").unlink()
    done = conda.run(SETUP, "--env", "sam3", "--with", "conda")  # the venv would hide Conda's environment
    assert done.returncode == 1
    assert "would be used instead of Conda's" in done.stderr


def test_without_conda_a_venv_is_created(place: Place) -> None:
    done = place.run(SETUP, "--env", "native")
    assert done.returncode == 1
    assert '"sam3d-objects" needs Python 3.12 with venv' in done.stderr
    place.add_python("python3.12")
    assert place.run(SETUP, "--env", "native").returncode == 0
    assert steps(place)[0] == "venv -m venv ROOT/.venvs/sam3d-objects"


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["mamba", "micromamba"])
def test_mamba_and_micromamba_create_environments(place: Place, tool: str) -> None:
    program = place.tools / tool
    envs = place.base / "mm" / "envs"
    program.write_text(
        "#!/usr/bin/env bash\n"
        f'if [[ $1 == shell ]]; then cat "{place.base}/hook"; else\n'
        f'FAKE_ENVS="{envs}" bash "{FAKES}/conda-env" {tool} "$@"; fi\n'
    )
    program.chmod(0o755)
    if tool == "mamba":
        place.add_conda()
        place.settings["CONDA_SH"] = str(place.conda_sh)
        envs.parent.mkdir()
        envs.symlink_to(place.conda_base / "envs", target_is_directory=True)
        (place.conda_base / "envs").mkdir()
    (place.base / "hook").write_text(
        'micromamba() { if [[ $1 == activate ]]; then [[ -d "'
        + str(envs)
        + '/$2" ]] && export CONDA_PREFIX="'
        + str(envs)
        + '/$2" PATH="'
        + str(envs)
        + '/$2/bin:$PATH"; else command micromamba "$@"; fi; }\n'
    )
    for number in (1, 2):
        done = place.run(SETUP, "--env", "vllm")
        assert done.returncode == 0, done.stderr
        verb = "" if tool == "micromamba" else "env "
        verb += "create" if number == 1 else ("install" if tool == "micromamba" else "update")
        assert steps(place)[0] == f"{tool} {verb} -n vllm -f ROOT/envs/vllm.yml"
        (envs / "vllm" / ".sam3d_gs").unlink()


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("found_by", ["MAMBA_EXE", "PATH"])
@pytest.mark.slow
def test_mamba_alone_creates_an_environment_that_can_be_activated(place: Place, asked: bool, found_by: str) -> None:
    program = (place.tools if found_by == "PATH" else place.base / "elsewhere") / "mamba"
    program.parent.mkdir(exist_ok=True)
    envs = place.base / "mm" / "envs"
    hook = f'''mamba() {{
      if [[ $1 != activate ]]; then "{program}" "$@"; return; fi
      [[ -d "{envs}/$2" ]] && export CONDA_PREFIX="{envs}/$2" PATH="{envs}/$2/bin:$PATH"
    }}'''
    (place.base / "hook").write_text(hook)
    program.write_text(
        "#!/usr/bin/env bash\n"
        f'if [[ $1 == shell ]]; then cat "{place.base}/hook"; else\n'
        f'FAKE_ENVS="{envs}" bash "{FAKES}/conda-env" mamba "$@"; fi\n'
    )
    program.chmod(0o755)
    if found_by == "MAMBA_EXE":
        place.settings["MAMBA_EXE"] = str(program)
    done = place.run(SETUP, "--env", "vllm", *(("--with", "mamba") if asked else ()))
    assert done.returncode == 0, done.stderr
    assert steps(place)[0] == "mamba env create -n vllm -f ROOT/envs/vllm.yml"
    assert "vllm is up to date" in place.run(SETUP, "--env", "vllm").stderr


def test_a_wrong_conda_sh_ends_the_set_up(place: Place) -> None:
    done = place.run(SETUP, "--env", "vllm", CONDA_SH="/gone/conda.sh")
    assert done.returncode == 1
    assert done.stderr == "setup.sh: CONDA_SH is not a readable file (/gone/conda.sh).\n"


@pytest.mark.slow
def test_a_failed_set_up_is_repeated(conda: Place) -> None:
    assert conda.run(SETUP, "--env", "vllm").returncode == 0
    (conda.root / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    conda.give_order("no-network")
    done = conda.run(SETUP, "--env", "vllm")
    assert done.returncode == 1
    assert "ERROR: no network" in done.stderr
    assert "setup.log" in done.stderr
    conda.cancel_order("no-network")
    assert "up to date" not in conda.run(SETUP, "--env", "vllm").stderr
    assert "up to date" in conda.run(SETUP, "--env", "vllm").stderr


def test_variables_set_the_names_of_environments(conda: Place) -> None:
    assert conda.run(SETUP, "--env", "native", SAM3D_GS_ENV_SAM3D="light").returncode == 0
    assert steps(conda)[0] == "conda env create -n light -f ROOT/envs/native.yml"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--env", "torch"], 2, "Expected vllm, sam3, native or sam3d-objects"),
        (["--env"], 2, "Unknown environment"),
        (["--with", "brew"], 2, "Unknown tool: brew"),
        (["vllm"], 2, "Unknown argument: vllm"),
        (["--with", "mamba"], 1, "mamba is not on the PATH"),
        (["--env", "sam3d-objects", "--with", "venv"], 1, "--env native, which needs no compiler"),
        (["--help"], 0, ""),
    ],
)
def test_arguments_are_checked(conda: Place, arguments: list[str], code: int, words: str) -> None:
    done = conda.run(SETUP, *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert steps(conda) == []
    assert ("Usage: bash envs/setup.sh" in done.stdout) == (code == 0)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_recipes_name_their_environment_and_pin_exact_versions(recipe: str) -> None:
    """Each .yml has its environment's name and its .txt, in which every version is exact."""
    envs = REPOSITORY / "envs"
    text = (envs / f"{recipe}.yml").read_text()
    assert re.search(r"^name: (.*)$", text, re.MULTILINE)[1] == RECIPES[recipe]  # type: ignore[index]
    assert f"      - -r {recipe}.txt\n" in text
    for line in requirements(envs / f"{recipe}.txt"):
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_compiled_packages_are_pinned_to_commits_or_versions() -> None:
    for line in requirements(REPOSITORY / "envs" / "sam3d-objects-build.txt"):
        assert re.search(r"@([0-9a-f]{40}|v[\d.]+)$|==[\d.]+$", line), line


def requirements(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]
