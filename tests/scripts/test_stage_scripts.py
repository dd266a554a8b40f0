"""run_pipeline.sh, run_agent_with_vllm.sh and run_sam3d_from_masks.sh, from the outside."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sam3d_gs.cli import app
from tests.scripts.script_place import STAGE_ENVIRONMENTS, Place, process_exists

ALL = "phrases,masks,objects,scene"
SCRIPTS = ("run_pipeline.sh", "run_agent_with_vllm.sh", "run_sam3d_from_masks.sh")


def stages(place: Place) -> list[str]:
    return [call.stages for call in place.calls()]


# --- the full profile -------------------------------------------------------------------------------------------


def test_full_runs_each_stage_in_its_own_environment(full: Place) -> None:
    done = full.run("run_pipeline.sh", "photo.jpg")
    assert done.returncode == 0, done.stderr
    calls = full.calls()
    assert [call.stages for call in calls] == ["phrases", "masks", "objects,scene"]
    for call, name in zip(calls, STAGE_ENVIRONMENTS, strict=True):
        assert call.environment["CONDA_DEFAULT_ENV"] == name
        assert call.environment["program"] == str(full.conda_base / "envs" / name / "bin" / "sam3d-gs")
        assert call.argv[3:] == ["--profile", "full", "--workspace", str(full.root), "photo.jpg"]


def test_full_prints_only_the_programs_output(full: Place) -> None:
    done = full.run("run_pipeline.sh")
    assert done.stdout.splitlines() == ["outputs of phrases", "outputs of masks", "outputs of objects,scene"]
    assert done.stderr == ""


def test_no_environment_leaks_into_the_next(full: Place) -> None:
    outer = full.base / "outer venv"
    full.add_venv(outer)
    full.run("run_pipeline.sh", VIRTUAL_ENV=str(outer), PYTHONHOME="/nowhere", PATH=f"{outer}/bin:{full.tools}")
    calls = full.calls()
    assert len(calls) == 3
    for call, name in zip(calls, STAGE_ENVIRONMENTS, strict=True):
        folders = call.environment["PATH"].split(":")
        assert folders[0] == str(full.conda_base / "envs" / name / "bin")
        assert [folder for folder in folders if "/envs/" in folder] == folders[:1]
        assert call.environment["CONDA_SHLVL"] == "1"
        assert call.environment["PYTHONNOUSERSITE"] == "1"
        assert "VIRTUAL_ENV" not in call.environment
        assert "PYTHONHOME" not in call.environment


def test_variables_set_the_environment_names(place: Place) -> None:
    place.add_conda("a", "b", "c")
    names = {"SAM3D_GS_ENV_VLLM": "a", "SAM3D_GS_ENV_SAM3": "b", "SAM3D_GS_ENV_SAM3D": "c"}
    done = place.run("run_pipeline.sh", CONDA_SH=str(place.conda_sh), **names)
    assert done.returncode == 0, done.stderr
    assert [call.environment["CONDA_DEFAULT_ENV"] for call in place.calls()] == ["a", "b", "c"]


def test_venvs_in_the_repository_are_used(place: Place) -> None:
    for name in STAGE_ENVIRONMENTS:
        place.add_venv(place.root / ".venvs" / name)
    done = place.run("run_pipeline.sh", "photo.jpg")
    assert done.returncode == 0, done.stderr
    for call, name in zip(place.calls(), STAGE_ENVIRONMENTS, strict=True):
        assert call.environment["VIRTUAL_ENV"] == str(place.root / ".venvs" / name)
        assert call.environment["program"].startswith(call.environment["VIRTUAL_ENV"])


def test_options_and_photos_reach_every_stage_unchanged(full: Place) -> None:
    given = ["grüne Küche.jpg", "my photos/a *.jpg", "--force", "--workspace", "other place", "--", "-odd.jpg", ""]
    assert full.run("run_pipeline.sh", *given).returncode == 0
    assert [call.options for call in full.calls()] == [given] * 3


def checks(place: Place) -> list[str]:
    path = place.base / "checks"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_full_checks_once_whether_all_stages_can_run(full: Place) -> None:
    assert full.run("run_pipeline.sh", "a.jpg", "--", "b.jpg").returncode == 0
    assert checks(full) == [f"{ALL} in vllm"]
    assert full.run("run_agent_with_vllm.sh").returncode == 0
    assert full.run("run_sam3d_from_masks.sh").returncode == 0
    assert checks(full)[1:] == ["phrases,masks in vllm", "objects,scene in sam3d-objects"]


def test_nothing_starts_if_the_check_fails(full: Place) -> None:
    full.give_order("not-ready", "")
    for script in SCRIPTS:
        done = full.run(script, "a.jpg")
        assert done.returncode == 1
        assert done.stderr == "masks (sam3): no weights\n"
    assert full.calls() == []
    assert full.run("run_pipeline.sh", "a.jpg", SAM3D_GS_CHECKED="1").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--stages", "--stages=masks"])
def test_the_scripts_refuse_the_stages_option(full: Place, option: str) -> None:
    for script in SCRIPTS:
        done = full.run(script, "a.jpg", option, "masks")
        assert done.returncode == 2
        assert "This script does not take --stages" in done.stderr
    assert full.calls() == []
    full.run("run_pipeline.sh", "--", "--stages")  # a photo of that name
    assert len(full.calls()) == 3


def test_a_variable_sets_the_workspace(full: Place) -> None:
    full.run("run_pipeline.sh", SAM3D_GS_WORKSPACE="/some where")
    assert {call.argv[6] for call in full.calls()} == {"/some where"}


def test_the_default_photo_is_the_sample(full: Place) -> None:
    full.run("run_pipeline.sh", "--seed", "3")
    assert {call.environment["SAM3D_GS_PHOTO"] for call in full.calls()} == {str(full.root / "assets" / "sample.jpg")}
    full.run("run_sam3d_from_masks.sh", SAM3D_GS_PHOTO="mine.png")
    assert full.calls()[-1].environment["SAM3D_GS_PHOTO"] == "mine.png"


@pytest.mark.slow
@pytest.mark.parametrize("subcommand", ["run", "phrases", "masks", "objects", "scene", "reconstruct"])
def test_the_real_program_reads_the_photo_from_the_same_variable(
    subcommand: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"SAM3D_GS_PHOTO": str(tmp_path / "no such.jpg"), "SAM3D_GS_WORKSPACE": str(tmp_path)}
    done = CliRunner().invoke(app, [subcommand], env=environ)
    assert done.exit_code == 1  # 2 would be a missing argument
    assert "no such.jpg" in done.output + caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(("failing", "reached"), [("phrases", 1), ("masks", 2), ("objects,scene", 3)])
def test_a_failing_stage_ends_the_run_with_its_code(full: Place, failing: str, reached: int) -> None:
    full.give_order(f"exit-{failing}", "7")
    assert full.run("run_pipeline.sh", "photo.jpg").returncode == 7
    assert len(full.calls()) == reached


@pytest.mark.slow
@pytest.mark.parametrize("partial", ["phrases", "masks", "objects,scene"])
def test_a_partial_failure_is_the_exit_code_after_all_stages(full: Place, partial: str) -> None:
    full.give_order(f"exit-{partial}", "3")
    assert full.run("run_pipeline.sh", "photo.jpg").returncode == 3
    assert stages(full) == ["phrases", "masks", "objects,scene"]


def test_a_failure_after_a_partial_failure_is_the_exit_code(full: Place) -> None:
    full.give_order("exit-phrases", "3")
    full.give_order("exit-objects,scene", "1")
    assert full.run("run_pipeline.sh", "photo.jpg").returncode == 1


def test_each_script_runs_its_own_stages(full: Place) -> None:
    assert full.run("run_agent_with_vllm.sh", "a.jpg").returncode == 0
    assert full.run("run_sam3d_from_masks.sh", "a.jpg").returncode == 0
    assert stages(full) == ["phrases", "masks", "objects,scene"]


# --- missing environments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_full_with_an_unknown_environment_prints_one_line(place: Place, script: str) -> None:
    place.add_conda()
    done = place.run(script, "photo.jpg", "--profile", "full", CONDA_SH=str(place.conda_sh))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    missing = "sam3d-objects" if script == "run_sam3d_from_masks.sh" else "vllm"
    assert f'Cannot use the environment "{missing}"' in done.stderr
    assert f"Could not find conda environment: {missing}." in done.stderr
    assert "SAM3D_GS_ENV_VLLM" in done.stderr
    assert place.calls(None) == []


def test_full_without_conda_prints_one_line(place: Place) -> None:
    done = place.run("run_pipeline.sh", "--profile=full")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no Conda found" in done.stderr


def test_the_error_for_a_wrong_conda_sh_names_it(place: Place) -> None:
    done = place.run("run_pipeline.sh", "--profile", "full", CONDA_SH="/not/there")
    assert done.returncode == 1
    assert "/not/there" in done.stderr


def test_the_error_for_a_missing_program_says_how_to_install_it(place: Place) -> None:
    for name in STAGE_ENVIRONMENTS:
        place.add_venv(place.root / ".venvs" / name, program=False)
    done = place.run("run_pipeline.sh", SAM3D_GS_PROFILE="full")
    assert done.returncode == 1
    assert f"pip install -e '{place.root}'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_profile_is_a_usage_error(full: Place) -> None:
    done = full.run("run_pipeline.sh", "--profile", "fast")
    assert done.returncode == 2
    assert "Expected full or embedded" in done.stderr
    assert full.calls() == []


# --- the embedded profile ---------------------------------------------------------------------------------------


def test_without_stage_environments_the_embedded_profile_runs_with_a_note(embedded: Place) -> None:
    done = embedded.run("run_pipeline.sh", "photo.jpg", "--phrases", "red cup")
    assert done.returncode == 0, done.stderr
    [call] = embedded.calls()
    arguments = ["--profile", "embedded", "--workspace", str(embedded.root), "photo.jpg", "--phrases", "red cup"]
    assert call.argv == ["run", "--stages", ALL, *arguments]
    assert call.environment["VIRTUAL_ENV"] == str(embedded.root / ".venv")
    [line] = done.stderr.splitlines()
    assert "NOTE" in line
    assert '"vllm"' in line


@pytest.mark.slow
def test_full_needs_all_environments_of_the_script(embedded: Place) -> None:
    embedded.add_conda("vllm", "sam3")
    done = embedded.run("run_pipeline.sh", CONDA_SH=str(embedded.conda_sh))
    assert stages(embedded) == [ALL]
    assert '"sam3d-objects"' in done.stderr
    embedded.run("run_agent_with_vllm.sh", CONDA_SH=str(embedded.conda_sh))  # needs only the two others
    assert embedded.calls()[-1].environment["CONDA_DEFAULT_ENV"] == "sam3"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["option", "variable"])
def test_an_explicit_embedded_profile_runs_without_a_note(embedded: Place, how: str) -> None:
    embedded.add_conda(*STAGE_ENVIRONMENTS)
    arguments = ["--profile", "embedded"] if how == "option" else []
    profile = "full" if how == "option" else "embedded"
    done = embedded.run("run_pipeline.sh", *arguments, CONDA_SH=str(embedded.conda_sh), SAM3D_GS_PROFILE=profile)
    assert (done.returncode, done.stderr) == (0, "")
    assert stages(embedded) == [ALL]
    assert "CONDA_DEFAULT_ENV" not in embedded.calls()[0].environment


def test_the_stage_scripts_run_in_the_embedded_environment_too(embedded: Place) -> None:
    assert embedded.run("run_agent_with_vllm.sh", "a.jpg", "--profile", "embedded").returncode == 0
    assert embedded.run("run_sam3d_from_masks.sh", "a.jpg", "--profile", "embedded").returncode == 0
    assert stages(embedded) == ["phrases", "masks", "objects,scene"]
    assert {call.environment["VIRTUAL_ENV"] for call in embedded.calls()} == {str(embedded.root / ".venv")}


@pytest.mark.slow
@pytest.mark.parametrize("code", [1, 2, 3])
def test_embedded_returns_the_programs_exit_code(embedded: Place, code: int) -> None:
    embedded.give_order("exit-" + ALL, str(code))
    assert embedded.run("run_pipeline.sh", "--profile", "embedded").returncode == code


def test_the_first_run_sets_up_and_the_second_does_not(place: Place) -> None:
    place.add_python("python3.11")
    assert place.run("run_pipeline.sh", "--profile", "embedded").returncode == 0
    first = len(place.pip_calls())
    assert first > 0
    second = place.run("run_pipeline.sh", "--profile", "embedded")
    assert (second.returncode, second.stderr) == (0, "")
    assert len(place.pip_calls()) == first


def test_a_failing_set_up_stops_the_run(place: Place) -> None:
    place.add_python("python3.11")
    place.give_order("no-network")
    done = place.run("run_pipeline.sh", "--profile", "embedded")
    assert done.returncode == 1
    assert "ERROR: no network" in done.stderr
    assert place.calls() == []


# --- calls ------------------------------------------------------------------------------------------------------


def test_scripts_keep_the_current_folder_and_default_to_the_repository(full: Place) -> None:
    elsewhere = full.base / "über all"
    elsewhere.mkdir()
    bash = str(full.tools / "bash")
    done = subprocess.run([bash, "../my clone/run_pipeline.sh", "a.jpg"], cwd=elsewhere, env=full.environ(), timeout=30)
    assert done.returncode == 0
    for call in full.calls():
        assert call.cwd == elsewhere
        assert call.argv[6] == str(full.root)


def test_cdpath_has_no_effect(full: Place) -> None:
    command = [str(full.tools / "bash"), "my clone/run_pipeline.sh"]
    done = subprocess.run(command, cwd=full.base, env=full.environ(CDPATH=str(full.base)), timeout=30, check=False)
    assert done.returncode == 0
    assert full.calls()[0].argv[6] == str(full.root)


def test_home_can_be_unset(full: Place) -> None:
    environ = full.environ()
    del environ["HOME"]
    done = full.run("run_pipeline.sh", environ=environ)
    assert done.returncode == 0, done.stderr
    del environ["CONDA_SH"]
    done = full.run("run_pipeline.sh", "--profile", "full", environ=environ)
    assert "no Conda found" in done.stderr


@pytest.mark.parametrize("script", [*SCRIPTS, "run_tests.sh"])
def test_help_prints_the_comment_at_the_top(place: Place, script: str) -> None:
    done = place.run(script, "--help")
    assert done.returncode == 0
    assert f"Usage: bash {script}" in done.stdout
    assert "set -euo" not in done.stdout
    assert not (place.root / ".venv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "profile"),
    [("run_pipeline.sh", "full"), ("run_agent_with_vllm.sh", "full"), ("run_pipeline.sh", "embedded")],
)
def test_ctrl_c_stops_the_program_and_exits_130(request: pytest.FixtureRequest, script: str, profile: str) -> None:
    place: Place = request.getfixturevalue(profile)
    place.give_order("wait")
    command = [str(place.tools / "bash"), str(place.root / script), "--profile", profile]
    process = subprocess.Popen(command, env=place.environ(), start_new_session=True)
    try:
        pid_file = place.base / "pid"
        deadline = time.monotonic() + 20
        while not (pid_file.exists() and pid_file.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(timeout=20) == 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (place.base / "stopped").exists()
    assert not process_exists(int(pid_file.read_text()))
    assert len(place.calls()) == 1
