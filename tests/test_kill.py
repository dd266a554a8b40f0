"""A run killed at any moment leaves whole files, and the next one does not repeat finished objects."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from sam3d_gs import manifest as manifests
from sam3d_gs.files import TEMPORARY_PREFIX
from sam3d_gs.gaussians.ply import read_ply
from sam3d_gs.gaussians.pt import read_pt
from sam3d_gs.scene_files import read_scene
from sam3d_gs.workspace import Workspace

CHILD = """
import sys, time
from pathlib import Path
from sam3d_gs import engines, pipeline
from sam3d_gs.options import MaskOptions, ObjectOptions, PhraseOptions, SceneOptions
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
pipeline.load_engine = lambda stage, name, options: made[stage]()

class Silent:
    def stage(self, workspace, result): pass
    def failed(self, photo, stage, error): print(error, file=sys.stderr)
    def progress(self, photo, stage): return lambda *args: None

settings = pipeline.Settings(root, scene=SceneOptions(turntable="none", report=False))
print("ready", flush=True)
sys.exit(pipeline.run([photo], ["phrases", "masks", "objects", "scene"], settings, Silent()))
"""


def test_killed_at_random_moments(tmp_path: Path, picture: Path) -> None:
    root, journal = tmp_path / "out", tmp_path / "journal"
    workspace = Workspace(root, "kitchen")
    rng = random.Random(0)
    code = None
    for _attempt in range(40):
        done_before = _recorded_objects(workspace)
        lines_before = _lines(journal)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(root), str(picture), str(journal)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.0, 0.5))
        child.send_signal(signal.SIGKILL)
        code = child.wait()
        child.stdout.close()
        made = _lines(journal)[len(lines_before) :]
        assert not done_before & set(made), "a finished object was made again"
        _all_files_are_whole(workspace)
        if code == 0:
            break
    assert code == 0 or _recorded_objects(workspace)
    final = subprocess.run(
        [sys.executable, "-c", CHILD, str(root), str(picture), str(journal)],
        cwd=Path(__file__).parent.parent,
        check=False,
        capture_output=True,
    )
    assert final.returncode == 0, final.stderr
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
