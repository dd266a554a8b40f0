"""A run killed at any moment leaves whole files, and the next one does not repeat finished objects."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from sam3d_gs import manifest as manifests
from sam3d_gs.files import TEMPORARY_PREFIX
from sam3d_gs.gaussians.ply import read_ply
from sam3d_gs.gaussians.pt import read_pt
from sam3d_gs.scene_files import read_scene
from sam3d_gs.workspace import Workspace

# Imports everything once, then runs the pipeline in forks of itself and kills each after the seconds it is told.
HARNESS = """
import os, signal, sys, time
from pathlib import Path
import torch, numba
from sam3d_gs import pipeline
from sam3d_gs.engines import registry
from sam3d_gs.options import SceneOptions
from sam3d_gs.stages import masks, objects, phrases, scene
from tests import fakes

root, photo, journal = map(Path, sys.argv[1:])

class Slow(fakes.FakeObjects):
    def objects(self, photo, masks, wanted):
        for obj in super().objects(photo, masks, wanted):
            time.sleep(0.02)
            with journal.open("a") as lines:
                print(obj.object_id, file=lines)
            yield obj

things = [f"thing {i}" for i in range(8)]
made = {"phrases": lambda: fakes.FakePhrases(things), "masks": fakes.FakeMasks, "objects": Slow}
registry.load = lambda choice: made[choice.spec.stage]()

class Silent:
    def stage(self, photo, workspace, result): pass
    def failed(self, photo, stage, error): print(error, file=sys.stderr)
    def progress(self, photo, stage): return lambda *args: None

settings = pipeline.Settings(root, scene=SceneOptions(turntable="none", report=False))
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        os._exit(pipeline.run([photo], ["phrases", "masks", "objects", "scene"], settings, Silent()))
    end = time.monotonic() + float(line)
    while time.monotonic() < end and not (ended := os.waitpid(child, os.WNOHANG))[0]:
        time.sleep(0.002)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(ended[1]), flush=True)
"""


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path, picture: Path) -> None:
    root, journal = tmp_path / "out", tmp_path / "journal"
    workspace = Workspace(root, "kitchen")
    rng = random.Random(0)
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(root), str(picture), str(journal)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    with harness:
        assert harness.stdin is not None
        assert harness.stdout is not None
        assert harness.stdout.readline() == "ready\n"
        interrupted = 0
        for attempt in range(30):
            last = attempt == 29
            done_before, lines_before = _recorded_objects(workspace), len(_lines(journal))
            print(300.0 if last else rng.uniform(0.01, 0.15), file=harness.stdin, flush=True)
            code = int(harness.stdout.readline())
            made = _lines(journal)[lines_before:]
            assert not done_before & set(made), "a finished object was made again"
            _all_files_are_whole(workspace)
            interrupted += code == -9
            if code == 0:
                break
        harness.stdin.close()
    assert code == 0
    assert interrupted > 3, "the kills came too late to test anything"
    assert len(read_scene(workspace.scene_json).objects) == 8
    assert not list(root.rglob(f"{TEMPORARY_PREFIX}*"))


def _lines(journal: Path) -> list[str]:
    return journal.read_text().split() if journal.exists() else []


def _recorded_objects(workspace: Workspace) -> set[str]:
    manifest = manifests.load(workspace.manifest)
    record = manifest.stages.get("objects") if manifest else None
    return set(record.items) if record else set()


def _all_files_are_whole(workspace: Workspace) -> None:
    manifests.load(workspace.manifest)
    for path in workspace.root.rglob("*"):
        if path.name.startswith(TEMPORARY_PREFIX) or not path.is_file():
            continue
        if path.suffix == ".pt":
            read_pt(path)
        elif path.suffix == ".ply":
            read_ply(path)
        elif path == workspace.scene_json:
            read_scene(path)
