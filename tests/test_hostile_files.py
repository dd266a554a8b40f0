"""Whatever the files of a workspace hold, every command gives a result or one line: never a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sam3d_gs.api import load_scene
from sam3d_gs.assets.scene_export import export_scene
from sam3d_gs.commands import clean, status
from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.options import SceneOptions
from sam3d_gs.phrase_files import phrases_from_file
from sam3d_gs.pipeline import all_workspaces, find_workspace
from sam3d_gs.report.viewer import from_workspace
from sam3d_gs.stages import masks, objects, phrases, scene
from sam3d_gs.stages.bookkeeping import Context
from sam3d_gs.stages.claim import claimed
from tests.fakes import FakeMasks, FakeObjects, FakePhrases, fake_choice
from tests.hostile import damaged_json, damaged_pt

QUICK = SceneOptions(turntable="none", report=False)
JSON_FILES = ("manifest", "phrases_json", "masks_json", "scene_json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A workspace in which all stages have run; tests copy it."""
    import numpy as np
    from PIL import Image

    from sam3d_gs.photo import load_photo

    root = tmp_path_factory.mktemp("finished")
    rgb = np.full((48, 64, 3), 200, np.uint8)
    rgb[12:36, 4:28], rgb[12:36, 36:60] = (200, 40, 30), (30, 60, 200)
    Image.fromarray(rgb).save(root / "kitchen.png")
    photo = load_photo(root / "kitchen.png")
    with claimed(root, photo) as workspace:
        context = Context(workspace, photo)
        _run_all(context)
    return context


def _run_all(context: Context) -> None:
    phrases.run(context, fake_choice("phrases"), FakePhrases)
    masks.run(context, fake_choice("masks"), FakeMasks)
    objects.run(context, fake_choice("objects"), FakeObjects)
    scene.run(context, QUICK)


def _commands(context: Context) -> list[Callable[[], object]]:
    """What reads the files of a workspace."""
    workspace, root, photo = context.workspace, context.workspace.root, context.photo

    def claim() -> None:
        with claimed(root, photo):
            pass

    return [
        lambda: [status.as_table(status.as_data(found)) for found in all_workspaces(root)],
        lambda: clean.remove(find_workspace(root, Path("kitchen")), dry_run=True),
        lambda: load_scene("kitchen", root),
        lambda: from_workspace(workspace),
        lambda: export_scene(workspace, "ply", "z-up"),
        lambda: export_scene(workspace, "ply", "ros", ("00-red-thing-0", 0.1)),
        claim,
        lambda: phrases.run(context, fake_choice("phrases"), FakePhrases),
        lambda: masks.run(context, fake_choice("masks"), FakeMasks),
        lambda: objects.run(context, fake_choice("objects"), FakeObjects),
        lambda: scene.run(context, QUICK),
    ]


def _failures(commands: list[Callable[[], object]], damage: bytes) -> list[str]:
    """What was raised that no user can act on."""
    found = []
    for number, command in enumerate(commands):
        try:
            command()
        except Sam3dGsError as error:
            if "\n" in str(error):
                found.append(f"command {number}: more than one line: {error}")
        except Exception as error:
            found.append(f"command {number}: {type(error).__name__}: {error} for {damage[:2000]!r}")
    return found


def _copied(finished: Context, root: Path) -> Context:
    from sam3d_gs.workspace import Workspace

    if root.exists():
        shutil.rmtree(root)
    shutil.copytree(finished.workspace.root, root)
    return Context(Workspace(root, finished.workspace.photo), finished.photo)


def _count(rounds: int, finished: Context, tmp_path: Path, name: str) -> list[str]:
    rng = random.Random(name)
    failures: list[str] = []
    for _ in range(rounds):
        context = _copied(finished, tmp_path / "copy")
        path: Path = getattr(context.workspace, name)
        damage = damaged_json(path.read_text(encoding="utf-8"), rng)
        path.write_bytes(damage)
        failures += _failures(_commands(context), damage)
    return failures


@pytest.mark.parametrize("name", JSON_FILES)
def test_damaged_json_is_one_line(finished: Context, tmp_path: Path, name: str) -> None:
    assert _count(12, finished, tmp_path, name) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", JSON_FILES)
def test_much_damaged_json_is_one_line(finished: Context, tmp_path: Path, name: str) -> None:
    assert _count(60, finished, tmp_path, name) == []


def test_damaged_lists_of_phrases_are_one_line(finished: Context, tmp_path: Path) -> None:
    rng, path = random.Random(5), tmp_path / "mine.json"
    text = finished.workspace.phrases_json.read_text(encoding="utf-8")
    failures = []
    for _ in range(200):
        damage = damaged_json(text, rng)
        path.write_bytes(damage)
        failures += _failures([lambda: phrases_from_file(path)], damage)
    assert failures == []


def _record_size(context: Context, path: Path) -> None:
    """A file of another size than the manifest says is made again, and not read."""
    manifest = json.loads(context.workspace.manifest.read_text(encoding="utf-8"))
    for item in manifest["stages"]["objects"]["items"].values():
        if item["output"] == context.workspace.relative(path):
            item["size"] = path.stat().st_size
    context.workspace.manifest.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.slow
def test_damaged_objects_are_one_line(finished: Context, tmp_path: Path) -> None:
    rng = random.Random(6)
    failures = []
    for _ in range(80):
        context = _copied(finished, tmp_path / "copy")
        path = sorted(context.workspace.objects_dir.glob("*.pt"))[0]
        damage = damaged_pt(torch.load(path, weights_only=True), rng)
        path.write_bytes(damage)
        _record_size(context, path)
        failures += _failures([*_commands(context)[2:3], *_commands(context)[9:]], damage[:0])
    assert failures == []
