"""Pose decoding, and the step into our frame: the same object point lands on the same camera point."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sam3d_gs.gaussians.pose import quat_to_matrix, transform_points
from sam3d_gs.sam3d_torch.pointmap import to_pytorch3d
from sam3d_gs.sam3d_torch.pose import _ROTATION_MEAN, _ROTATION_STD, PoseError, Sam3dPose, decode, to_opencv

ONE, ZERO = torch.ones(3), torch.zeros(3)
numbers = st.floats(-3, 3, allow_nan=False, width=32)


def _latents(
    rotation: object = (1, 0, 0, 0, 1, 0), scale: object = (0, 0, 0), translation: object = (0, 0, 0)
) -> dict[str, Tensor]:
    """`rotation` is the 6-D vector before normalisation."""
    six = (np.asarray(rotation, dtype=np.float64) - _ROTATION_MEAN) / _ROTATION_STD
    made = {"6drotation_normalized": six, "scale": scale, "translation": translation, "translation_scale": (7.0,)}
    return {name: torch.tensor(value, dtype=torch.float32).reshape(1, 1, -1) for name, value in made.items()}


def test_the_neutral_latents_are_the_identity() -> None:
    pose = decode(_latents(), ONE, ZERO)
    np.testing.assert_allclose(pose.quat_wxyz, (1, 0, 0, 0), atol=1e-6)
    np.testing.assert_allclose(pose.translation, 0, atol=1e-7)
    assert pose.scale == pytest.approx(1)


def test_the_six_numbers_are_columns_and_points_are_rows() -> None:
    pose = decode(_latents(rotation=(0, 2, 0, -3, 5, 0)), ONE, ZERO)  # b1 = y, b2 = -x: a quarter turn about z
    matrix = quat_to_matrix(pose.quat_wxyz)
    np.testing.assert_allclose(matrix, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(np.array([1.0, 0, 0]) @ matrix, (0, -1, 0), atol=1e-6)


def test_scale_and_shift_of_the_pointmap_are_undone() -> None:
    latents = _latents(scale=np.log([1.0, 2.0, 3.0]), translation=(0.5, -1.0, 2.0))
    pose = decode(latents, torch.full((3,), 4.0), torch.tensor([1.0, 2.0, 3.0]), downsample=2.0)
    assert pose.scale == pytest.approx(2 * 4 * 2)  # mean of 1, 2, 3; the pointmap's scale; shrunk voxels
    np.testing.assert_allclose(pose.translation, (3, -2, 11), rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[numbers] * 6), st.tuples(*[numbers] * 3), st.tuples(*[numbers] * 3), numbers)
def test_both_conventions_place_points_alike(
    rotation: tuple[float, ...], translation: tuple[float, ...], point: tuple[float, ...], log_scale: float
) -> None:
    try:
        pose = decode(
            _latents(rotation, (log_scale,) * 3, translation), torch.full((3,), 1.7), torch.tensor([0.3, -2.0, 1.1])
        )
    except PoseError:  # the two vectors are parallel, or one is zero
        assert np.linalg.norm(np.cross(rotation[:3], rotation[3:])) < 1e-2
        return
    assert np.linalg.norm(pose.quat_wxyz) == pytest.approx(1)
    rows = pose.scale * (np.array(point) @ quat_to_matrix(pose.quat_wxyz)) + pose.translation
    ours = transform_points(to_opencv(pose), np.array([point]))
    np.testing.assert_allclose(to_pytorch3d(torch.from_numpy(ours))[0].numpy(), rows, rtol=1e-5, atol=1e-5)


def test_to_opencv_turns_about_the_optical_axis() -> None:
    placed = to_opencv(Sam3dPose(np.array([1.0, 0, 0, 0]), np.array([1.0, 2.0, 3.0]), 0.5))
    np.testing.assert_allclose(np.abs(placed.quat_wxyz), (0, 0, 0, 1), atol=1e-12)
    np.testing.assert_allclose(placed.translation, (-1, -2, 3))
    assert placed.scale == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_latents_are_decoded_in_full_precision(dtype: torch.dtype) -> None:
    latents = {name: value.to(dtype) for name, value in _latents((1, 2, 3, -1, 0, 2), (1, 1, 1), (1, 2, 3)).items()}
    exact = {name: value.float() for name, value in latents.items()}
    half, full = decode(latents, ONE, ZERO), decode(exact, ONE, ZERO)
    np.testing.assert_array_equal(half.quat_wxyz, full.quat_wxyz)
    assert half.scale == full.scale


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"rotation": (0, 0, 0, 0, 1, 0)}, "no rotation"),
        ({"rotation": (1, 2, 3, 2, 4, 6)}, "no rotation"),
        ({"rotation": (math.nan, 0, 0, 0, 1, 0)}, "no rotation"),
        ({"scale": (math.nan, 0, 0)}, "nowhere"),
        ({"scale": (1000, 0, 0)}, "nowhere"),
        ({"scale": (-1000, -1000, -1000)}, "nowhere"),
        ({"translation": (0, math.inf, 0)}, "nowhere"),
    ],
)
def test_unusable_latents_are_refused_with_a_reason(broken: dict[str, object], reason: str) -> None:
    with pytest.raises(PoseError, match=reason) as caught:
        decode(_latents(**broken), ONE, ZERO)
    assert "\n" not in str(caught.value)


def test_one_object_at_a_time() -> None:
    latents = {name: value.repeat(2, 1, 1) for name, value in _latents().items()}
    with pytest.raises(ValueError, match="one object"):
        decode(latents, ONE, ZERO)
