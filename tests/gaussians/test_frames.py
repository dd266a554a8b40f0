"""Frames other programs want, against what their names promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.gaussians.frames import AXES, OF_CAMERA, rotation_from_camera
from sam3d_gs.options import EXPORT_FRAMES

RIGHT, DOWN, FORWARD = np.eye(3)
LEVEL = -DOWN


def looking(pitch_deg: float, roll_deg: float = 0.0) -> np.ndarray:
    """Up in the frame of a camera that looks down by the pitch and is rolled clockwise."""
    pitch, roll = np.radians([pitch_deg, roll_deg])
    return np.array([-np.sin(roll) * np.cos(pitch), -np.cos(roll) * np.cos(pitch), -np.sin(pitch)])


def test_all_frames_can_be_asked_for() -> None:
    assert tuple(AXES) == EXPORT_FRAMES


@pytest.mark.parametrize(
    ("frame", "right", "forward", "up"),
    [
        ("opencv", (1, 0, 0), (0, 0, 1), (0, -1, 0)),
        ("opengl", (1, 0, 0), (0, 0, -1), (0, 1, 0)),
        ("y-up", (1, 0, 0), (0, 0, -1), (0, 1, 0)),
        ("z-up", (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        ("ros", (0, -1, 0), (1, 0, 0), (0, 0, 1)),
    ],
)
def test_a_level_camera(frame: str, right: tuple[int], forward: tuple[int], up: tuple[int]) -> None:
    rotation = rotation_from_camera(frame, LEVEL)
    for seen, expected in ((RIGHT, right), (FORWARD, forward), (LEVEL, up)):
        np.testing.assert_allclose(rotation @ seen, expected, atol=1e-12)


@settings(deadline=None)
@given(st.sampled_from(list(AXES)), st.floats(-90, 90), st.floats(-180, 180))
def test_every_camera(frame: str, pitch_deg: float, roll_deg: float) -> None:
    up = looking(pitch_deg, roll_deg)
    rotation = rotation_from_camera(frame, up)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) > 0, "no frame mirrors"
    if frame in OF_CAMERA:
        np.testing.assert_array_equal(rotation, rotation_from_camera(frame, LEVEL))
        return
    straight = rotation_from_camera(frame, LEVEL)
    np.testing.assert_allclose(rotation @ up, straight @ LEVEL, atol=1e-9)
    # Where the photo looks is ahead, or straight up or down; never behind, and never to the side.
    ahead, aside = straight @ FORWARD, straight @ RIGHT
    assert (rotation @ FORWARD) @ ahead >= -1e-9
    assert abs((rotation @ FORWARD) @ aside) < 2e-3


@pytest.mark.parametrize("pitch_deg", [90.0, -90.0])
def test_straight_down_the_top_of_the_picture_is_ahead_and_straight_up_its_foot(pitch_deg: float) -> None:
    rotation = rotation_from_camera("z-up", looking(pitch_deg))
    ahead = LEVEL if pitch_deg > 0 else DOWN
    np.testing.assert_allclose(rotation @ ahead, (0, 1, 0), atol=1e-9)
