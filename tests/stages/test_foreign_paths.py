"""A workspace may come from anywhere: what its files name is read or removed only if it is the photo's own."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam3d_gs.api import load_scene
from sam3d_gs.commands import clean
from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.options import RUNS_DIR, SceneOptions
from sam3d_gs.pipeline import all_workspaces, find_workspace
from sam3d_gs.report.viewer import from_workspace
from sam3d_gs.stages import masks, objects, phrases, scene
from sam3d_gs.stages.bookkeeping import Context
from sam3d_gs.stages.claim import claimed
from tests.fakes import FakeMasks, FakeObjects, FakePhrases, fake_choice

QUICK = SceneOptions(turntable="none", report=False)
FOREIGN = [
    "../victim",
    "victim",
    "/victim",
    "outputs/master_with_vllm/kitchen/../../../victim",
    "outputs/master_with_vllm/kitchen/more/victim",
    "outputs/master_with_vllm/kitchen-2/manifest.json",
    "outputs/master_with_vllm/masks/masks.json",
    "sam-3d-objects/gaussians/multi/garage.ply",
    "sam-3d-objects/gaussians/multi/kitchen.ply.txt",
    "",
    ".",
]


@pytest.fixture
def made(context: Context) -> Context:
    phrases.run(context, fake_choice("phrases"), FakePhrases)
    masks.run(context, fake_choice("masks"), FakeMasks)
    objects.run(context, fake_choice("objects"), FakeObjects)
    scene.run(context, QUICK)
    return context


def _edit(path: Path, change: Callable[[Any], None]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def _victims(context: Context) -> list[Path]:
    """Something at each foreign path that can have a file; `/victim` stands for itself."""
    root = context.workspace.root
    found = [(root / path).resolve() for path in FOREIGN[:1] + FOREIGN[1:2] + FOREIGN[4:9]]
    for path in found:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")
    return found


def test_no_stage_removes_what_a_manifest_names_elsewhere(made: Context) -> None:
    victims, original = _victims(made), made.workspace.manifest.read_bytes()
    for foreign, force in itertools.product(FOREIGN, (False, True)):
        made.workspace.manifest.write_bytes(original)
        _edit(made.workspace.manifest, functools.partial(_record, path=foreign))
        context = Context(made.workspace, made.photo, force)
        for run in (
            lambda c: phrases.run(c, fake_choice("phrases"), FakePhrases),
            lambda c: masks.run(c, fake_choice("masks", max_objects=3), FakeMasks),
            lambda c: objects.run(c, fake_choice("objects"), FakeObjects),
            lambda c: scene.run(c, QUICK),
        ):
            with pytest.raises(BadInputError, match=r"manifest\.json names .* not a file of 'kitchen'"):
                run(context)
        assert all(path.read_text() == "precious" for path in victims)


def _record(manifest: dict[str, Any], path: str) -> None:
    """Let every stage name `path` among its files."""
    for stage in ("phrases", "masks", "scene"):
        manifest["stages"][stage]["outputs"][path] = 8
    manifest["stages"]["objects"]["items"]["00-cup-0"] = {"input": "0", "output": path, "size": 8}


def test_a_scene_in_memory_reads_no_foreign_object(made: Context) -> None:
    for foreign in FOREIGN:
        _edit(
            made.workspace.manifest,
            lambda m, path=foreign: next(iter(m["stages"]["objects"]["items"].values())).update(output=path),
        )
        with pytest.raises(BadInputError, match="not a file of 'kitchen'"):
            load_scene("kitchen", made.workspace.root)


def test_the_viewer_follows_no_foreign_path(made: Context) -> None:
    for foreign in FOREIGN:
        _edit(made.workspace.scene_json, lambda data, path=foreign: data["objects"][0]["files"].update(ply=path))
        with pytest.raises(BadInputError, match=r"kitchen\.json names .* not a file of 'kitchen'"):
            from_workspace(made.workspace)


def test_every_path_that_a_run_records_is_the_photos_own(made: Context) -> None:
    workspace, manifest = made.workspace, json.loads(made.workspace.manifest.read_text())
    named = [path for stage in manifest["stages"].values() for path in stage["outputs"]]
    named += [item["output"] for item in manifest["stages"]["objects"]["items"].values()]
    assert len(named) > 10
    assert all(workspace.own_file(path, workspace.manifest).is_file() for path in named)


@pytest.mark.parametrize("folder", ["run_dir", "masks_dir", "dropped_masks_dir", "objects_dir", "single_dir"])
def test_nothing_is_written_through_a_linked_folder(made: Context, tmp_path: Path, folder: str) -> None:
    elsewhere, link = tmp_path / "elsewhere", getattr(made.workspace, folder)
    elsewhere.mkdir()
    if link.exists():
        link.rename(tmp_path / "moved")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(BadInputError, match="symbolic link"), claimed(made.workspace.root, made.photo):
        pass
    assert not list(elsewhere.iterdir())


def test_a_workspace_on_another_disk_may_be_linked(made: Context, tmp_path: Path) -> None:
    outputs = made.workspace.root / "outputs"
    outputs.rename(tmp_path / "large disk")
    outputs.symlink_to(tmp_path / "large disk", target_is_directory=True)
    with claimed(made.workspace.root, made.photo) as workspace:
        assert workspace.photo == "kitchen"


@pytest.mark.parametrize("name", ["masks", "logs", "kitchen.z-up"])
def test_a_planted_manifest_makes_no_photo_of_shared_folders(made: Context, name: str) -> None:
    folder = made.workspace.root / RUNS_DIR / name
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(made.workspace.manifest.read_bytes())
    assert [w.photo for w in all_workspaces(made.workspace.root)] == ["kitchen"]
    with pytest.raises(Sam3dGsError):
        find_workspace(made.workspace.root, Path(name))


def test_clean_removes_a_link_and_not_what_it_points_to(made: Context, tmp_path: Path) -> None:
    made.workspace.single_dir.rename(tmp_path / "mine")
    made.workspace.single_dir.symlink_to(tmp_path / "mine", target_is_directory=True)
    clean.remove(made.workspace)
    assert list((tmp_path / "mine").iterdir())
    assert not made.workspace.single_dir.is_symlink()
    assert not made.workspace.run_dir.exists()
