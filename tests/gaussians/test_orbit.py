"""Cameras about scenes and objects: the photo's view first, everything in the picture, nothing too near."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.gaussians.orbit import full_turn, object_cameras, photo_camera, scene_cameras
from sam3d_gs.gaussians.render import Camera
from sam3d_gs.types import Gaussians

K = np.array([[900.0, 0.0, 500.0], [0.0, 900.0, 390.0], [0.0, 0.0, 1.0]])
SIZE = (1024, 768)


def cloud(centre: tuple[float, float, float], extent: tuple[float, float, float], n: int = 400) -> Gaussians:
    rng = np.random.default_rng(0)
    return Gaussians(
        means=(np.array(centre) + rng.uniform(-0.5, 0.5, (n, 3)) * extent).astype(np.float32),
        quats=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        log_scales=np.full((n, 3), -8, np.float32),
        opacity_logits=np.full(n, 3, np.float32),
        sh0=np.zeros((n, 3), np.float32),
    )


def projected(camera: Camera, gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) px and (N,) depth."""
    seen = gaussians.means @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3]
    pixels = seen @ camera.K.T
    return pixels[:, :2] / pixels[:, 2:], seen[:, 2]


def position(camera: Camera) -> np.ndarray:
    return -camera.T_camera_world[:3, :3].T @ camera.T_camera_world[:3, 3]


@settings(max_examples=40, deadline=None)
@given(
    slope=st.floats(-0.5, 0.5),
    z=st.floats(0.5, 20),
    extent=st.tuples(*[st.floats(0.01, 8)] * 3),
    yaw=st.one_of(st.floats(45, 315), st.sampled_from([45.0, 90.0, 180.0, -45.0])),
)
def test_everything_is_in_the_picture_and_nothing_too_near(slope: float, z: float, extent: tuple, yaw: float) -> None:
    scene = cloud((slope * z, 0.2 * z, z), extent)
    (camera,) = scene_cameras(scene, K, SIZE, [yaw], 256, up=(0.1, -1.0, -0.2))
    pixels, depth = projected(camera, scene)
    size = np.array([camera.width_px, camera.height_px])
    assert (pixels > 0).all()
    assert (pixels < size).all()
    assert ((pixels.max(0) - pixels.min(0)) / size).max() > 0.25, "and it is not lost in it either"
    centre = (scene.means.min(0) + scene.means.max(0)) / 2
    assert depth.min() > 0.4 * np.linalg.norm(position(camera) - centre)


def test_yaw_zero_is_the_photos_camera() -> None:
    scene = cloud((0.5, 0.2, 4), (3, 2, 1))
    first, again = scene_cameras(scene, K, SIZE, [0.0, 360.0], 512)
    photo = photo_camera(K, SIZE, 512)
    assert (photo.width_px, photo.height_px) == (512, 384)
    assert photo.K[:2] == pytest.approx(K[:2] / 2)
    for camera in (first, again):
        assert pytest.approx(photo.K, abs=1e-6) == camera.K
        assert camera.T_camera_world == pytest.approx(np.eye(4), abs=1e-6)


def test_a_positive_yaw_moves_the_camera_to_its_right_about_up() -> None:
    scene = cloud((0, 0, 4), (2, 1, 2))
    right, behind = scene_cameras(scene, K, SIZE, [90.0, 180.0], 256)
    assert position(right)[0] > 4
    assert position(right)[1] == pytest.approx(0, abs=0.1)
    assert position(behind)[2] > 8
    for camera in (right, behind):  # rotated, not mirrored, and upright
        R = camera.T_camera_world[:3, :3]
        assert pytest.approx(np.eye(3), abs=1e-9) == R @ R.T
        assert np.linalg.det(R) == pytest.approx(1)
        assert R[1] == pytest.approx([0, 1, 0], abs=1e-9)


def test_a_turn_loops_and_starts_at_the_front() -> None:
    turn = np.array([*full_turn(48), 360.0])
    assert turn[0] == 0.0
    steps = np.diff(turn)
    assert (steps > 0).all()
    assert steps[0] == pytest.approx(steps[-1])
    assert steps[0] < 0.6 * steps[24]


@pytest.mark.parametrize("z", [-3.0, 0.0])
def test_scenes_that_are_not_in_front_or_not_there_do_not_fail(z: float) -> None:
    for scene in (cloud((0, 0, z), (1, 1, 1)), cloud((0, 0, z), (0, 0, 0)), cloud((0, 0, z), (1, 1, 1), n=0)):
        for camera in scene_cameras(scene, K, SIZE, [0.0, 20.0, 180.0], 128):
            assert np.isfinite(camera.K).all()
            assert np.isfinite(camera.T_camera_world).all()
        for camera in object_cameras(scene, [0.0, 90.0], 64):
            assert np.isfinite(camera.K).all()
            assert np.isfinite(camera.T_camera_world).all()


@settings(max_examples=30, deadline=None)
@given(front_deg=st.floats(0, 360), extent=st.tuples(*[st.floats(0.05, 1)] * 3), yaw=st.sampled_from([0.0, 40.0, 90.0]))
def test_object_cameras_look_from_the_front_a_little_from_above(front_deg: float, extent: tuple, yaw: float) -> None:
    thing = cloud((0.1, 0, 0.05), extent)
    towards = np.radians(front_deg)
    front = (np.cos(towards), np.sin(towards), 0.7)
    camera, other = object_cameras(thing, [yaw, yaw + 180], 128, front)
    seen_from = position(camera) - (thing.means.min(0) + thing.means.max(0)) / 2
    turned = np.degrees(np.arctan2(seen_from[1], seen_from[0])) - front_deg
    assert (turned - yaw + 180) % 360 - 180 == pytest.approx(0, abs=0.5)
    assert np.degrees(np.arctan2(seen_from[2], np.hypot(*seen_from[:2]))) == pytest.approx(15, abs=0.5)
    pixels, _ = projected(camera, thing)
    assert (pixels > 0).all()
    assert (pixels < 128).all()
    assert pytest.approx(other.K) == camera.K
    assert np.linalg.det(camera.T_camera_world[:3, :3]) == pytest.approx(1)
    assert (camera.T_camera_world[:3, :3] @ [0, 0, 1])[1] < -0.9, "Z is up in the picture"


def test_a_front_from_straight_above_still_gives_a_view() -> None:
    thing = cloud((0, 0, 0), (1, 1, 1))
    (camera,) = object_cameras(thing, [0.0], 64, (0.0, 0.0, 1.0))
    assert position(camera)[1] < -1
