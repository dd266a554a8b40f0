"""Objects in memory as splat files: the bytes that `export_scene` makes from the scene's files."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.assets.moved import moved_scene
from sam3d_gs.assets.scene_export import export_scene
from sam3d_gs.assets.splat_files import write_scene_splats
from sam3d_gs.errors import BadInputError, UsageError
from sam3d_gs.gaussians.merge import write_scene as write_scene_ply
from sam3d_gs.gaussians.scene import describe_scene
from sam3d_gs.scene_files import read_scene, write_moved_scene, write_scene
from sam3d_gs.types import PlacedObject
from sam3d_gs.workspace import Workspace
from tests.gaussians.helpers import random_object


@pytest.fixture
def objects() -> list[PlacedObject]:
    return [random_object(f"{i:02d}-thing-0", 300 + i, seed=i) for i in range(3)]


@pytest.fixture
def workspace(tmp_path: Path, objects: list[PlacedObject]) -> Workspace:
    """The same objects as the scene stage leaves them."""
    workspace = Workspace(tmp_path, "things")
    write_scene_ply(workspace.scene_ply, objects)
    write_scene(workspace.scene_json, describe_scene("things", objects), {})
    return workspace


def _content(path: Path) -> bytes:
    """An .spz is gzipped, with the time of writing in its header."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".spz" else data


@pytest.mark.parametrize(
    ("form", "frame"), [("ply", "z-up"), ("ply", "ros"), ("ply", "opengl"), ("spz", "y-up"), ("spz", "opencv")]
)
def test_files_of_memory_and_of_files_are_the_same(
    tmp_path: Path, workspace: Workspace, objects: list[PlacedObject], form: str, frame: str
) -> None:
    if form != "ply":
        pytest.importorskip("gsply")
    path = tmp_path / f"mine.{form}"
    write_scene_splats(path, objects, frame)
    assert _content(path) == _content(export_scene(workspace, form, frame)[0])


def test_the_description_is_the_same_too(tmp_path: Path, workspace: Workspace, objects: list[PlacedObject]) -> None:
    from sam3d_gs.gaussians.frames import AXES
    from sam3d_gs.gaussians.pose import pose_matrix

    path = tmp_path / "mine.ply"
    moved = write_scene_splats(path, objects, "z-up")
    assert moved is not None
    scene = moved_scene(describe_scene("things", objects), moved)
    files = {"ply": workspace.relative(workspace.export("ply", "z-up"))}
    write_moved_scene(tmp_path / "mine.json", scene, AXES["z-up"], pose_matrix(moved.motion), files)
    exported = export_scene(workspace, "ply", "z-up")[1]
    assert (tmp_path / "mine.json").read_bytes() == exported.read_bytes()


def test_in_the_camera_frame_it_is_the_scene_ply(
    tmp_path: Path, workspace: Workspace, objects: list[PlacedObject]
) -> None:
    assert write_scene_splats(tmp_path / "mine.ply", objects) is None
    assert (tmp_path / "mine.ply").read_bytes() == workspace.scene_ply.read_bytes()


def test_a_described_scene_is_what_a_reader_gets_back(workspace: Workspace, objects: list[PlacedObject]) -> None:
    described, read = describe_scene("things", objects), read_scene(workspace.scene_json)
    np.testing.assert_array_equal(read.up, described.up)
    assert [obj.gaussians for obj in read.objects] == [300, 301, 302]
    for obj, one in zip(objects, read.objects, strict=True):
        np.testing.assert_array_equal(one.T_camera_object[:3, 3], obj.pose.translation)
        assert one.reprojection_iou is None


def test_what_cannot_be_written(tmp_path: Path, objects: list[PlacedObject]) -> None:
    with pytest.raises(UsageError, match=r"Cannot write splats to scene\.glb"):
        write_scene_splats(tmp_path / "scene.glb", objects)
    with pytest.raises(UsageError, match="Unknown frame 'unity'"):
        write_scene_splats(tmp_path / "scene.ply", objects, "unity")
    for frame in ("opencv", "z-up"):
        with pytest.raises(BadInputError, match=r"01-thing-0 has another camera or scale than 00-thing-0"):
            write_scene_splats(tmp_path / "scene.ply", [objects[0], replace(objects[1], image_size=(1, 1))], frame)
        with pytest.raises(BadInputError, match="no objects"):
            write_scene_splats(tmp_path / "scene.ply", [], frame)
        with pytest.raises(BadInputError, match="two objects 00-thing-0"):
            write_scene_splats(tmp_path / "scene.ply", [objects[0], objects[0]], frame)
    assert not list(tmp_path.iterdir())
