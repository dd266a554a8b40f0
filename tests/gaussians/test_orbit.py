"""Cameras about scenes and objects: the photo's view first, everything in the picture, nothing too near."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.gaussians.orbit import (
    EXTENT,
    FILL,
    OBJECT_DISTANCE,
    SCENE_DISTANCE,
    full_turn,
    object_cameras,
    photo_camera,
    scene_cameras,
)
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


def box(centre: tuple[float, float, float], extent: tuple[float, float, float], log_scale: float = -20) -> Gaussians:
    """Points on the corners of a box, as large as exp(log_scale)."""
    corners = (np.indices((2, 2, 2)).reshape(3, -1).T - 0.5) * extent + centre
    return replace(cloud((0, 0, 0), (1, 1, 1), 8), means=corners.astype(np.float32), log_scales=_scales(log_scale))


def _scales(log_scale: float) -> np.ndarray:
    return np.full((8, 3), log_scale, np.float32)


def test_a_turn_is_even_but_for_a_slow_start() -> None:
    assert full_turn(8)[2] == pytest.approx(90 - 30)
    assert full_turn(8)[4] == pytest.approx(180)
    assert full_turn(8)[6] == pytest.approx(270 + 30)
    assert full_turn(0) == ()


def test_the_photos_camera_is_scaled_by_its_longer_side() -> None:
    camera = photo_camera(K, (1000, 401), 100)
    assert (camera.width_px, camera.height_px) == (100, 40)
    np.testing.assert_allclose(camera.K[0], K[0] / 10)
    np.testing.assert_allclose(camera.K[1], K[1] * 40 / 401)
    np.testing.assert_array_equal(camera.T_camera_world, np.eye(4))
    assert (photo_camera(K, (1000, 1), 100).height_px, photo_camera(K, (1, 1000), 100).width_px) == (1, 1)


@pytest.mark.parametrize(("z", "expected"), [(4.0, SCENE_DISTANCE * 1.5), (20.0, 20.0)])
def test_away_from_the_photo_a_scene_is_seen_from_far_enough(z: float, expected: float) -> None:
    scene = box((0, 0, z), (2, 2, 1))  # its radius is 1.5
    for camera in scene_cameras(scene, K, SIZE, [45.0, 120.0, -90.0], 256):
        assert np.linalg.norm(position(camera) - [0, 0, z]) == pytest.approx(expected, rel=1e-4)


def test_half_way_a_camera_has_glided_half_the_ratio() -> None:
    scene = box((0, 0, 2), (2, 2, 1))
    half, whole = scene_cameras(scene, K, SIZE, [22.5, 45.0], 256)
    retreat, zoom = SCENE_DISTANCE * 1.5 / 2, whole.K[0, 0] / photo_camera(K, SIZE, 256).K[0, 0]
    assert np.linalg.norm(position(half) - [0, 0, 2]) == pytest.approx(2 * retreat**0.5, rel=1e-4)
    assert half.K[0, 0] == pytest.approx(photo_camera(K, SIZE, 256).K[0, 0] * zoom**0.5, rel=1e-6)
    (quarter,) = scene_cameras(scene, K, SIZE, [-0.25 * 45], 256)
    assert np.linalg.norm(position(quarter) - [0, 0, 2]) == pytest.approx(2 * retreat ** (0.0625 * 2.5), rel=1e-4)


def test_the_widest_view_of_a_turn_fills_the_picture_and_each_is_centred() -> None:
    scene = box((0.3, 0.1, 4), (3, 1, 1))
    shares = []
    for camera in scene_cameras(scene, K, SIZE, [*range(45, 316, 15)], 256):
        pixels, _ = projected(camera, scene)
        size = np.array([camera.width_px, camera.height_px])
        np.testing.assert_allclose((pixels.min(0) + pixels.max(0)) / 2, size / 2, atol=0.01)
        shares.append((np.ptp(pixels, axis=0) / size).max())
    assert max(shares) == pytest.approx(FILL, abs=0.02)  # the widest may be at a yaw near the photo's
    assert FILL == 0.86


@pytest.mark.parametrize("centre", [(0.0, 0.0, -3.0), (5.0, 0.0, 1.4), (0.0, 0.0, 0.0)])
def test_what_is_beside_or_behind_the_camera_makes_it_turn_about_a_point_before_it(centre: tuple) -> None:
    scene = box(centre, (2, 2, 1))
    ahead = np.array([0, 0, SCENE_DISTANCE * 1.5])
    for camera in scene_cameras(scene, K, SIZE, [90.0, 180.0], 256):
        assert np.linalg.norm(position(camera) - ahead) == pytest.approx(ahead[2], rel=1e-4)
        assert camera.T_camera_world[:3] @ [*ahead, 1] == pytest.approx(ahead, abs=1e-4)


def test_a_scene_just_ahead_of_the_side_is_turned_about_itself() -> None:
    centre = np.array([5.0, 0.0, 1.8])  # 0.34 of its distance is ahead
    (camera,) = scene_cameras(box(tuple(centre), (2, 2, 1)), K, SIZE, [180.0], 256)
    assert np.linalg.norm(position(camera) - centre) == pytest.approx(np.linalg.norm(centre), rel=1e-4)


def test_an_object_fills_its_pictures_from_a_fixed_distance() -> None:
    thing = box((0.3, -0.2, 0.1), (2, 2, 1))
    widest = []
    for camera in object_cameras(thing, [*range(0, 360, 15)], 200, elevation_deg=30):
        away = position(camera) - [0.3, -0.2, 0.1]
        assert np.linalg.norm(away) == pytest.approx(OBJECT_DISTANCE * 1.5, rel=1e-4)
        assert away[2] == pytest.approx(OBJECT_DISTANCE * 1.5 / 2, rel=1e-4)
        pixels, _ = projected(camera, thing)
        assert camera.K[:2, 2] == pytest.approx([100, 100])
        widest.append(np.ptp(pixels, axis=0).max() / 200)
    assert max(widest) == pytest.approx(FILL, abs=2e-3)


def test_large_gaussians_are_in_the_picture_but_one_giant_does_not_shrink_the_rest() -> None:
    small, large = (box((0, 0, 0), (1, 1, 1), log_scale) for log_scale in (-20, np.log(0.2)))
    (near,), (far,) = (object_cameras(thing, [0.0], 100) for thing in (small, large))
    radius = np.sqrt(3) / 2
    assert np.linalg.norm(position(near)) == pytest.approx(OBJECT_DISTANCE * radius, rel=1e-4)
    grown = np.linalg.norm(position(far)) / OBJECT_DISTANCE - radius
    assert 0.8 * EXTENT * 0.2 < grown < 2 * EXTENT * 0.2  # the box about balls on its corners
    many = cloud((0, 0, 0), (1, 1, 1), 400)
    log_scales = many.log_scales.copy()
    log_scales[7] = 3
    (plain,), (with_giant,) = (
        object_cameras(thing, [0.0], 100) for thing in (many, replace(many, log_scales=log_scales))
    )
    assert np.linalg.norm(position(with_giant)) < 1.1 * np.linalg.norm(position(plain))
