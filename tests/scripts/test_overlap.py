"""run_pipeline.sh --overlap: the real program in four processes, with fake engines that log what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.scripts.script_place import REPOSITORY, STAGE_ENVIRONMENTS, Place

# A `sam3d-gs` whose engines write "STAGE PHOTO" to the journal, then execute orders/STAGE-PHOTO, if there is one.
PROGRAM = """
import os, select, signal, stat, sys, time, types
from pathlib import Path
from sam3d_gs import cli
from sam3d_gs.engines import registry
from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.stages import scene
from sam3d_gs.stages.bookkeeping import StageResult
from tests import fakes

base = Path(os.environ["FAKE"])
journal = base / "journal"

def execute(stage, photo):
    with journal.open("a") as lines:
        lines.write(f"{stage} {photo}\\n")
    order = base / "orders" / f"{stage}-{photo}"
    verb, _, what = order.read_text().partition(" ") if order.exists() else ("", "", "")
    if verb == "fail":
        raise Sam3dGsError("fails on purpose")
    if verb == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    end = time.monotonic() + 60
    while verb == "after" and not happened(what):
        assert time.monotonic() < end, f"{stage} {photo}: timeout while waiting for {what}"
        time.sleep(0.02)

def happened(what):
    return has_no_reader() if what == "the next stage ends" else what in journal.read_text().splitlines()

def has_no_reader():
    # Whether the process that reads the pipe to the next stage has ended.
    poller = select.poll()
    for fd in range(3, 20):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                poller.register(fd, 0)
        except OSError:
            pass
    return any(events & select.POLLERR for _, events in poller.poll(0))

class Phrases(fakes.FakePhrases):
    def phrases(self, photo):
        execute("phrases", photo.name)
        return super().phrases(photo)

class Masks(fakes.FakeMasks):
    def masks(self, photo, phrases):
        execute("masks", photo.name)
        return super().masks(photo, phrases)

class Objects(fakes.FakeObjects):
    def objects(self, photo, masks, wanted):
        execute("objects", photo.name)
        print("not for the next stage", flush=True)
        return super().objects(photo, masks, wanted)

def fake_scene(context, options):
    execute("scene", context.photo.name)
    return StageResult("scene", "done", "a scene")

def fake_write_pt(path, obj):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"object")

engines = {"phrases": Phrases, "masks": Masks, "objects": Objects}
registry.load = lambda choice: engines[choice.spec.stage]()
scene.run = fake_scene
sys.modules["sam3d_gs.gaussians.pt"] = types.SimpleNamespace(write_pt=fake_write_pt)  # avoids the import of torch
cli.main()
"""
ALL = ["phrases", "masks", "objects", "scene"]
PATHS = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])


@pytest.fixture
def photos(full: Place) -> list[str]:
    """Two photos, a and b, and three environments with the real program."""
    code = full.base / "program.py"
    code.write_text(PROGRAM, encoding="utf-8")
    for name in STAGE_ENVIRONMENTS:
        program = full.conda_base / "envs" / name / "bin" / "sam3d-gs"
        program.write_text(f'#!/usr/bin/env bash\nPYTHONPATH="{PATHS}" exec "{sys.executable}" "{code}" "$@"\n')
    rng = np.random.default_rng(0)
    names = [str(full.base / f"{name}.png") for name in "ab"]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(name)
    full.settings |= {"SAM3D_GS_CHECKED": "1", "CUDA_VISIBLE_DEVICES": ""}
    return names


def journal(place: Place) -> list[str]:
    path = place.base / "journal"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def run(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    return place.run("run_pipeline.sh", *arguments, "--overlap")


def of(photo: str, lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines if line.endswith(f" {photo}")]


def wait_for(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.slow
def test_stages_overlap_and_ignore_results_of_earlier_runs(full: Place, photos: list[str]) -> None:
    full.give_order("phrases-b", "after scene a")  # times out if the stages run one after another
    done = run(full, *photos)
    assert done.returncode == 0, done.stderr
    lines = journal(full)
    assert of("a", lines) == of("b", lines) == ALL
    assert done.stdout.splitlines() == ["a: scene: a scene (0.0 s)", "b: scene: a scene (0.0 s)"]
    assert {"a: phrases: 2 phrases", "b: objects: 2 objects"} <= {line[:21] for line in done.stderr.splitlines()}
    full.give_order("phrases-b", "fail")
    again = run(full, *photos, "--force")
    assert again.returncode == 3
    assert again.stderr.count("Error") == 1
    fresh = journal(full)[len(lines) :]
    assert of("a", fresh) == ALL
    assert of("b", fresh) == ["phrases"]  # later stages do not use the earlier results of b


@pytest.mark.slow
def test_photos_passed_on_by_a_killed_stage_are_finished(full: Place, photos: list[str]) -> None:
    full.give_order("phrases-b", "die")
    assert run(full, *photos).returncode == 128 + signal.SIGKILL
    assert of("a", journal(full)) == ALL
    assert of("b", journal(full)) == ["phrases"]


@pytest.mark.slow
def test_a_stage_stops_if_the_next_one_is_killed(full: Place, photos: list[str]) -> None:
    full.give_order("masks-a", "die")
    full.give_order("phrases-b", "after the next stage ends")
    done = run(full, *photos, str(full.base / "c.png"))
    assert done.returncode == 128 + signal.SIGKILL
    assert sorted(journal(full)) == ["masks a", "phrases a", "phrases b"]
    assert "The next stage has ended" in done.stderr
    assert "c.png" not in done.stderr


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_the_next_run_resumes(full: Place, photos: list[str]) -> None:
    full.give_order("phrases-b", "after something that never happens")
    command = [str(full.tools / "bash"), str(full.root / "run_pipeline.sh"), *photos, "--overlap"]
    process = subprocess.Popen(
        command, env=full.environ(), start_new_session=True, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        wait_for(lambda: {"scene a", "phrases b"} <= set(journal(full)))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        stderr = process.communicate(timeout=60)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert stderr.count("Stopped.") == 1
    assert "Traceback" not in stderr
    assert not group_exists(process.pid)
    full.cancel_order("phrases-b")
    done = run(full, *photos)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("up to date") == 3  # of photo a; the fake scene stage always runs
    assert of("b", journal(full)) == ["phrases", *ALL]


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    states = [
        path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()
    ]
    return any(int(state[2]) == group and state[0] not in "ZX" for state in states)


def test_overlap_is_an_option_only_before_two_dashes(full: Place) -> None:
    done = full.run("run_pipeline.sh", "a.jpg", "--overlap", "--seed", "3", "--", "--overlap")
    assert done.returncode == 0, done.stderr
    calls = {call.stages: call for call in full.calls()}
    assert sorted(calls) == sorted(ALL)
    assert calls["masks"].options == ["--follow", "--pass-on", "a.jpg", "--seed", "3", "--", "--overlap"]
    assert calls["scene"].environment["CONDA_DEFAULT_ENV"] == "sam3d-objects"
    assert full.run("run_pipeline.sh", "--overlap", "--stages", "masks").returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codes", "code"),
    [({"phrases": 3}, 3), ({"phrases": 1, "masks": 7}, 7), ({"masks": 7, "scene": 3}, 7), ({"phrases": 1}, 1)],
)
def test_the_exit_code_is_that_of_the_last_failed_stage(full: Place, codes: dict[str, int], code: int) -> None:
    for stage, own in codes.items():
        full.give_order(f"exit-{stage}", str(own))
    assert full.run("run_pipeline.sh", "a.jpg", "--overlap").returncode == code
