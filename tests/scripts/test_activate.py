"""envs/activate.sh: the order of its search, and that it does not change the caller's shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.scripts.script_place import FAKES, Place, executable

HEAD = 'set -euo pipefail; source "$ROOT/envs/activate.sh"; '


def shell(place: Place, text: str, **more: str) -> subprocess.CompletedProcess[str]:
    environ = place.environ(ROOT=str(place.root), **more)
    command = [str(place.tools / "bash"), "-c", HEAD + text]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)


def test_set_u_is_off_for_conda_and_on_afterwards(place: Place) -> None:
    place.add_conda("vllm")
    text = 'activate_env vllm; echo "$CONDA_DEFAULT_ENV $-"; echo "$never_set"'
    done = shell(place, text, CONDA_SH=str(place.conda_sh))
    name, flags = done.stdout.split()
    assert name == "vllm"
    assert "u" in flags
    assert "e" in flags
    assert done.returncode != 0
    assert "never_set" in done.stderr


def test_an_unknown_name_returns_1_and_does_not_exit(place: Place) -> None:
    place.add_conda("vllm")
    done = shell(place, "activate_env other || echo code $?", CONDA_SH=str(place.conda_sh))
    assert done.stdout == "code 1\n"
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("where", ["home", "conda-exe", "conda-info"])
def test_conda_is_found_without_conda_sh(place: Place, where: str) -> None:
    place.add_conda("vllm")
    more = {}
    if where == "home":
        shutil.move(place.conda_base, place.base / "home" / "miniforge3")
    elif where == "conda-exe":
        more["CONDA_EXE"] = str(place.conda_base / "bin" / "conda")
    else:
        program = place.tools / "conda"
        program.write_text(f'#!/usr/bin/env bash\n[[ "$*" == "info --base" ]] && echo "{place.conda_base}"\n')
        program.chmod(0o755)
    done = shell(place, 'activate_env vllm; echo "$CONDA_DEFAULT_ENV"', **more)
    assert done.stdout == "vllm\n", done.stderr


def test_micromamba_is_used_without_conda(place: Place) -> None:
    program = place.tools / "micromamba"
    hook = 'micromamba() { : "$UNSET_TOO"; [[ $2 == vllm ]] && export CONDA_PREFIX=/mm/vllm; }'
    program.write_text(f"#!/usr/bin/env bash\n[[ \"$*\" == 'shell hook --shell bash' ]] && echo '{hook}'\n")
    program.chmod(0o755)
    assert shell(place, 'activate_env vllm; echo "$CONDA_PREFIX"').stdout == "/mm/vllm\n"
    assert shell(place, "activate_env other").returncode == 1


def add_mamba(program: Path, function: str, *environments: str) -> None:
    """A fake mamba 2 or micromamba, whose hook defines `function`. Its root is beside the folder of the program."""
    root = program.parent.parent / "root"
    for name in environments:
        (root / "envs" / name).mkdir(parents=True)
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(
        f"""#!/usr/bin/env bash
[[ "$*" == 'shell hook --shell bash' ]] || exit 9
cat <<'HOOK'
export MAMBA_EXE='{program}'
{function}() {{
  : "$UNSET_TOO"
  [[ $1 == activate ]] || return 9
  local prefix='{root}/envs/'$2
  [[ $2 != /* ]] || prefix=$2
  [[ -d $prefix ]] || {{ echo "critical libmamba Cannot activate, prefix does not exist at: '$prefix'" >&2; return 1; }}
  export CONDA_PREFIX=$prefix
}}
HOOK
"""
    )
    program.chmod(0o755)


@pytest.mark.parametrize("found_by", ["MAMBA_EXE", "PATH"])
@pytest.mark.parametrize(
    ("name", "function"), [("mamba", "mamba"), ("micromamba", "micromamba"), ("mamba", "micromamba")]
)
def test_mamba_alone_activates(place: Place, found_by: str, name: str, function: str) -> None:
    program = (place.tools if found_by == "PATH" else place.base / "my mamba" / "bin") / name
    add_mamba(program, function, "vllm")
    prefix = program.parent.parent / "root" / "envs" / "vllm"
    more = {"MAMBA_EXE": str(program)} if found_by == "MAMBA_EXE" else {}
    assert shell(place, 'activate_env vllm; echo "$CONDA_PREFIX"', **more).stdout == f"{prefix}\n"
    assert shell(place, f'activate_env "{prefix}"; echo "$CONDA_PREFIX"', **more).stdout == f"{prefix}\n"
    done = shell(place, "activate_env other", **more)
    assert done.returncode == 1
    assert "prefix does not exist" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_environment_is_found_whichever_tool_made_it(place: Place) -> None:
    place.add_conda("vllm")
    add_mamba(place.base / "a" / "bin" / "micromamba", "micromamba", "sam3")
    add_mamba(place.tools / "mamba", "mamba", "sam3d-objects")
    more = {"MAMBA_EXE": str(place.base / "a" / "bin" / "micromamba"), "CONDA_SH": str(place.conda_sh)}
    for name in ("vllm", "sam3", "sam3d-objects"):
        done = shell(place, f'activate_env {name}; echo "${{CONDA_PREFIX##*/}}"', **more)
        assert done.stdout == f"{name}\n", done.stderr
    done = shell(place, "activate_env other", **more)
    assert "EnvironmentNameNotFound" in done.stderr  # the first tool's reason
    assert len(done.stderr.splitlines()) == 1


def test_a_mamba_without_a_hook_is_passed_over(place: Place) -> None:
    """mamba 1 has none, and MAMBA_EXE may be out of date."""
    program = place.tools / "mamba"
    program.write_text("#!/usr/bin/env bash\necho usage >&2; exit 2\n")
    program.chmod(0o755)
    assert "no Conda found" in shell(place, "activate_env vllm", MAMBA_EXE="/gone/mamba").stderr
    add_mamba(place.tools / "micromamba", "micromamba", "vllm")
    done = shell(place, 'activate_env vllm; echo "${CONDA_PREFIX##*/}"', MAMBA_EXE="/gone/mamba")
    assert done.stdout == "vllm\n", done.stderr


def test_a_wrong_conda_sh_is_named_even_if_there_is_mamba(place: Place) -> None:
    add_mamba(place.tools / "mamba", "mamba", "vllm")
    done = shell(place, "activate_env vllm", CONDA_SH="/gone/conda.sh")
    assert done.returncode == 1
    assert "CONDA_SH is not a readable file (/gone/conda.sh)." in done.stderr


def test_a_venv_has_precedence_over_conda(place: Place) -> None:
    place.add_conda("vllm")
    place.add_venv(place.base / "other venvs" / "vllm")
    more = {"SAM3D_GS_VENVS": str(place.base / "other venvs"), "CONDA_SH": str(place.conda_sh)}
    done = shell(place, 'activate_env vllm; echo "$VIRTUAL_ENV"; command -v sam3d-gs', **more)
    venv = f"{place.base}/other venvs/vllm"
    assert done.stdout.splitlines() == [venv, f"{venv}/bin/sam3d-gs"]


def test_run_in_env_does_not_change_the_shell(place: Place) -> None:
    place.add_conda("vllm")
    text = 'before=$PATH; run_in_env vllm sam3d-gs masks; [[ $PATH == "$before" ]]; echo "${CONDA_DEFAULT_ENV-none}"'
    done = shell(place, text, CONDA_SH=str(place.conda_sh))
    assert done.stdout.splitlines() == ["outputs of masks", "none"]


def test_env_problem_is_empty_only_if_the_program_is_installed(place: Place) -> None:
    place.add_venv(place.root / ".venvs" / "whole")
    place.add_venv(place.root / ".venvs" / "bare", program=False)
    assert shell(place, "env_problem whole").stdout == ""
    assert "has no sam3d-gs" in shell(place, "env_problem bare").stdout
    assert "no Conda found" in shell(place, "env_problem none").stdout


def test_a_program_elsewhere_on_the_path_does_not_count(place: Place) -> None:
    executable(FAKES / "sam3d-gs", place.tools / "sam3d-gs")
    place.add_venv(place.root / ".venvs" / "bare", program=False)
    assert shell(place, "run_in_env bare sam3d-gs masks").returncode == 1
    assert place.calls() == []
