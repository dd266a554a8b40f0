"""Scenes in other frames and in metres: what was written, read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.assets.scene_export import export_scene, read_known_size
from sam3d_gs.errors import BadInputError, Sam3dGsError, UsageError
from sam3d_gs.gaussians.ply import read_ply, write_ply
from sam3d_gs.gaussians.pose import pose_from_matrix, transform
from sam3d_gs.options import EXPORT_FORMATS
from sam3d_gs.scene_files import read_scene, write_scene
from sam3d_gs.types import Gaussians
from sam3d_gs.workspace import Workspace
from tests.command_line import sam3d_gs
from tests.toy_scene import BALLS, ball_gaussians, write_workspace

PITCH = np.radians(25)
UP = np.array([0.0, -np.cos(PITCH), -np.sin(PITCH)])
IDS = ("00-red-ball-0", "01-green-ball-0", "02-blue-ball-0")


@pytest.fixture
def made(tmp_path: Path) -> Workspace:
    """Three balls before a camera that looks down by 25 degrees."""
    workspace, scene, _ = write_workspace(tmp_path)
    write_scene(workspace.scene_json, replace(scene, up=UP), {})
    write_ply(workspace.scene_ply, merged())
    return workspace


def merged() -> Gaussians:
    parts = [transform(*ball_gaussians(ball)) for ball in BALLS]
    fields = ("means", "quats", "log_scales", "opacity_logits", "sh0")
    return Gaussians(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


@pytest.mark.slow
@pytest.mark.parametrize("frame", ["opengl", "y-up", "z-up", "ros"])
def test_description_and_splats_agree(made: Workspace, frame: str) -> None:
    ply, described = export_scene(made, "ply", frame)
    data, moved = json.loads(described.read_text()), read_ply(ply)
    assert (ply.name, described.name) == (f"balls.{frame}.ply", f"balls.{frame}.json")
    assert data["files"] == {"ply": made.relative(ply)}
    T = np.array(data["T_frame_camera"])
    expected = transform(read_ply(made.scene_ply), pose_from_matrix(T))
    np.testing.assert_allclose(moved.means, expected.means, atol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(moved.quats * expected.quats, 1)), 1, atol=1e-5)
    np.testing.assert_allclose(T[:3, :3] @ UP, data["up"], atol=1e-9)
    start = 0
    for row, ball in zip(data["objects"], BALLS, strict=True):
        own = moved.means[start : start + row["gaussians"]].astype(np.float64)
        start += row["gaussians"]
        single, _ = ball_gaussians(ball)
        placed = transform(single, pose_from_matrix(np.array(row["T_frame_object"]))).means
        np.testing.assert_allclose(own, placed, atol=1e-5)
        assert (own.mean(0) > row["aabb"][0]).all()
        assert (own.mean(0) < row["aabb"][1]).all()
        np.testing.assert_allclose(np.mean(row["obb"], 0), T[:3, :3] @ ball.centre + T[:3, 3], atol=0.02)
    # K and T_frame_camera lead back to the pixels of the photo.
    camera = (moved.means - T[:3, 3]) @ T[:3, :3]
    seen = camera[:, :2] / camera[:, 2:] * 500 + [240, 160]
    original = read_ply(made.scene_ply).means
    np.testing.assert_allclose(seen, original[:, :2] / original[:, 2:] * 500 + [240, 160], atol=0.01)


@pytest.mark.parametrize(("frame", "axis"), [("y-up", 1), ("z-up", 2), ("ros", 2)])
def test_the_lowest_object_stands_on_the_floor_below_the_camera(made: Workspace, frame: str, axis: int) -> None:
    ply, described = export_scene(made, "ply", frame)
    data = json.loads(described.read_text())
    assert min(row["aabb"][0][axis] for row in data["objects"]) == pytest.approx(0, abs=1e-6)
    assert read_ply(ply).means[:, axis].min() == pytest.approx(0, abs=0.02)
    camera = np.array(data["T_frame_camera"])[:3, 3]
    assert camera[axis] > 1.0
    np.testing.assert_allclose(np.delete(camera, axis), 0, atol=1e-9)


def test_a_known_size_makes_it_metric(made: Workspace) -> None:
    longest = float(np.ptp(np.array(read_scene(made.scene_json).objects[1].obb), axis=0).max())
    ply, described = export_scene(made, "ply", "opencv", (IDS[1], 0.07))
    data = json.loads(described.read_text())
    assert (data["units"], data["scale_source"]) == ("metres", "metric: 01-green-ball-0 is 0.07 m long")
    np.testing.assert_allclose(read_ply(ply).means, merged().means * 0.07 / longest, rtol=1e-5, atol=1e-7)
    box = np.array(data["objects"][1]["obb"])
    assert np.ptp(box, axis=0).max() == pytest.approx(0.07)
    assert np.exp(read_ply(ply).log_scales).mean() == pytest.approx(np.exp(merged().log_scales).mean() * 0.07 / longest)


@pytest.mark.slow
def test_compressed_formats_in_a_frame(made: Workspace) -> None:
    gsply = pytest.importorskip("gsply")
    plain = read_ply(export_scene(made, "ply", "y-up")[0])
    paths = [export_scene(made, form, "y-up")[0] for form in ("spz", "compressed.ply")]
    for read in (gsply.read_spz(paths[0]), gsply.plyread(paths[1])):
        np.testing.assert_allclose(np.sort(read.means, 0), np.sort(plain.means, 0), atol=2e-3)
    assert export_scene(made, "spz") == [made.export("spz")], "as it was: no frame in the name, no description"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("glb",), "Unknown format 'glb'"),
        (("ply", "unity"), "Unknown frame 'unity'. Expected one of opencv"),
        (("spz", "ros"), r"An \.spz has y up.*a \.ply for ros"),
        (("ply",), "in the frame opencv already"),
        (("ply", "opencv", ("no-such-0", 1.0)), "No object 'no-such-0'.*00-red-ball-0"),
        (("ply", "opencv", (IDS[0], 0.0)), "not a length"),
        (("ply", "opencv", (IDS[0], float("nan"))), "not a length"),
    ],
)
def test_what_cannot_be_asked(made: Workspace, arguments: tuple[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        export_scene(made, *arguments)


def test_sizes_are_read() -> None:
    assert read_known_size("00-mug-0=0.1") == ("00-mug-0", 0.1)


@pytest.mark.parametrize("text", ["0.1", "00-mug-0=", "=", "=0.1", "00-mug-0=tall"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"as in 00-mug-0=0\.1"):
        read_known_size(text)


def test_a_scene_that_is_missing_or_does_not_fit_its_description(made: Workspace) -> None:
    write_ply(made.scene_ply, ball_gaussians(BALLS[0])[0])
    with pytest.raises(BadInputError, match=r"balls\.ply and balls\.json differ: only 0 of the \.ply's 1,500"):
        export_scene(made, "ply", "z-up")
    made.scene_ply.unlink()
    with pytest.raises(Sam3dGsError, match="No scene of balls"):
        export_scene(made, "ply", "z-up")


@pytest.mark.slow
def test_clean_knows_every_export(made: Workspace) -> None:
    paths = {path for form in EXPORT_FORMATS if form != "spz" for path in export_scene(made, form, "z-up")}
    assert paths <= set(made.exports())


def test_on_the_command_line(
    made: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made.manifest.write_text("{}")
    call = ("export", "balls", "--workspace", made.root, "--format", "ply", "--frame", "z-up")
    code, out, err = sam3d_gs(monkeypatch, capfd, *call, "--known-size", f"{IDS[0]}=0.2")
    assert (code, err) == (0, "")
    assert [Path(line).name for line in out.splitlines()] == ["balls.z-up.ply", "balls.z-up.json"]
    code, _, err = sam3d_gs(monkeypatch, capfd, *call, "--known-size", "0.2")
    assert (code, err.count("\n")) == (2, 1)
