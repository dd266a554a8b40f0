"""Poses: identity, inverse, composition, and Gaussians that move like the surfaces they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sam3d_gs.gaussians import check, pose
from sam3d_gs.types import Gaussians, Pose
from tests.gaussians.helpers import assert_same, poses, random_gaussians, random_pose

IDENTITY = Pose(np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3), 1.0)
POINTS = np.random.default_rng(1).uniform(-1, 1, (20, 3))


def covariances(gaussians: Gaussians) -> np.ndarray:
    """(N, 3, 3) by SciPy, not by us."""
    turns = Rotation.from_quat(np.roll(gaussians.quats.astype(np.float64), -1, axis=1)).as_matrix()
    axes = turns * gaussians.scales.astype(np.float64)[:, None, :]
    return axes @ axes.transpose(0, 2, 1)


@settings(deadline=None)
@given(poses())
def test_quaternion_and_matrix_agree_with_scipy(one: Pose) -> None:
    matrix = pose.quat_to_matrix(one.quat_wxyz)
    np.testing.assert_allclose(matrix, Rotation.from_quat(np.roll(one.quat_wxyz, -1)).as_matrix(), atol=1e-12)
    back = pose.matrix_to_quat(matrix)
    assert back[np.flatnonzero(np.abs(back) > 1e-12)[0]] > 0  # one sign for each rotation
    np.testing.assert_allclose(np.abs(back @ one.quat_wxyz), 1.0, atol=1e-12)


@settings(deadline=None)
@given(poses())
def test_matrix_and_pose_are_the_same_map(one: Pose) -> None:
    matrix = pose.pose_matrix(one)
    moved = (matrix @ np.c_[POINTS, np.ones(len(POINTS))].T).T[:, :3]
    np.testing.assert_allclose(pose.transform_points(one, POINTS), moved, atol=1e-9)
    expected = one.scale * POINTS @ pose.quat_to_matrix(one.quat_wxyz).T + one.translation
    np.testing.assert_allclose(moved, expected, atol=1e-9)
    np.testing.assert_allclose(pose.pose_matrix(pose.pose_from_matrix(matrix)), matrix, atol=1e-9)


@settings(deadline=None)
@given(poses())
def test_inverse_undoes(one: Pose) -> None:
    np.testing.assert_allclose(
        pose.pose_matrix(pose.inverse(one)) @ pose.pose_matrix(one), np.eye(4), atol=1e-9 / one.scale
    )


@pytest.mark.slow
@settings(deadline=None)
@given(poses(), poses())
def test_composition_is_the_matrix_product(outer: Pose, inner: Pose) -> None:
    product = pose.pose_matrix(outer) @ pose.pose_matrix(inner)
    np.testing.assert_allclose(pose.pose_matrix(pose.compose(outer, inner)), product, atol=1e-9)


def test_identity_leaves_gaussians_alone() -> None:
    gaussians = random_gaussians(30)
    assert_same(pose.transform(gaussians, IDENTITY), gaussians)


@settings(deadline=None)
@given(poses(), st.integers(0, 5))
def test_covariances_turn_with_the_surface(one: Pose, seed: int) -> None:
    before = random_gaussians(10, seed)
    after = pose.transform(before, one)
    linear = pose.pose_matrix(one)[:3, :3]
    expected = linear @ covariances(before) @ linear.T
    # float32 quaternions and log scales: relative errors of a few 1e-7, times the exponent
    np.testing.assert_allclose(covariances(after), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert {getattr(after, name).dtype for name in ("means", "quats", "log_scales")} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(after.sh0, before.sh0)


def test_there_and_back_again() -> None:
    gaussians = random_gaussians(100)
    one = random_pose(3)
    back = pose.transform(pose.transform(gaussians, one), pose.inverse(one))
    np.testing.assert_allclose(back.means, gaussians.means, atol=5e-6)  # float32 at a distance of 6
    np.testing.assert_allclose(back.quats, gaussians.quats, atol=3e-7)
    np.testing.assert_allclose(back.log_scales, gaussians.log_scales, atol=1e-6)


def test_points_keep_their_precision() -> None:
    one = random_pose()
    assert pose.transform_points(one, POINTS.astype(np.float32)).dtype == np.float32
    assert pose.transform_points(one, POINTS).dtype == np.float64


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([1.0, 1.0, -1.0, 1.0]),
        np.diag([1.0, 2.0, 1.0, 1.0]),
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.eye(4) + np.eye(4)[[3, 0, 1, 2]],
    ],
    ids=["mirror", "stretch", "flat", "nan", "shear"],
)
def test_other_matrices_are_refused(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not a pose"):
        pose.pose_from_matrix(matrix)


def test_a_zero_quaternion_is_no_rotation() -> None:
    with pytest.raises(ValueError, match="not a rotation"):
        pose.quat_to_matrix(np.zeros(4))


def test_bounds_leave_stray_and_invisible_gaussians_outside() -> None:
    gaussians = random_gaussians(20_000)
    means, logits = gaussians.means.copy(), np.full(20_000, 2.0, np.float32)
    means[::3001] = 40.0  # seven strays
    means[1::7] = -9.0
    logits[1::7] = -5.0  # many, but not to be seen
    bounds = pose.object_bounds(Gaussians(means, gaussians.quats, gaussians.log_scales, logits, gaussians.sh0))
    np.testing.assert_allclose(bounds, [[-0.5] * 3, [0.5] * 3], atol=5e-3)


def test_bounds_of_few_gaussians_are_exact() -> None:
    gaussians = random_gaussians(37)
    visible = gaussians.means[gaussians.opacity_logits >= -2.2].astype(np.float64)
    np.testing.assert_array_equal(pose.object_bounds(gaussians), [visible.min(axis=0), visible.max(axis=0)])
    with pytest.raises(ValueError, match="no Gaussians"):
        pose.object_bounds(pose.thinned(random_gaussians(0)))


def test_corners_of_a_box() -> None:
    bounds = np.array([[-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]])
    corners = pose.box_corners(bounds, IDENTITY)
    np.testing.assert_array_equal(
        corners[[0, 1, 2, 4, 7]], [[-1, -2, -3], [-1, -2, 3], [-1, 2, -3], [1, -2, -3], [1, 2, 3]]
    )
    one = random_pose(4)
    np.testing.assert_allclose(pose.box_corners(bounds, one), pose.transform_points(one, corners), atol=1e-12)


@pytest.mark.parametrize("length", [1e-30, 1e-3, 1.01, 50.0, 1e30])
def test_quaternions_of_any_length_are_normalised(length: float) -> None:
    gaussians = random_gaussians(9)
    quats = gaussians.quats.copy()
    quats[4] *= np.float32(length)
    given = quats.copy()
    with np.errstate(over="ignore", under="ignore"):
        unit = check.unit_quats(quats)
    np.testing.assert_array_equal(quats, given)  # the caller's array is left alone
    np.testing.assert_allclose(unit, gaussians.quats, atol=2e-7)
    np.testing.assert_array_equal(np.delete(unit, 4, axis=0), np.delete(quats, 4, axis=0))
    assert check.unit_quats(gaussians.quats) is gaussians.quats


def test_zero_quaternions_are_counted() -> None:
    quats = random_gaussians(9).quats.copy()
    quats[[2, 5]] = 0.0
    with pytest.raises(ValueError, match="2 of 9 quaternions are zero"):
        check.unit_quats(quats)
