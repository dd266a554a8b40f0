"""Rigid motion with one scale: quaternions, poses, and Gaussians moved by them.

Quaternions are wxyz, matrices act on column vectors, and a pose is ``x -> scale * R @ x + translation``.
The arithmetic is float64; Gaussians stay float32.
"""

from __future__ import annotations

import numpy as np

from sam3d_gs.types import Gaussians, Pose

_SAMPLE = 1 << 14  # Gaussians that bounds are computed from
_TRIM = 1e-3  # fraction of them left outside on each side of each axis
_VISIBLE_LOGIT = -2.2  # opacity 0.1


def quat_to_matrix(quat_wxyz: np.ndarray) -> np.ndarray:
    """(4,) quaternion of any length but zero -> (3, 3) float64 rotation. Raises ValueError for a zero quaternion."""
    quat = np.asarray(quat_wxyz, dtype=np.float64)
    length = np.linalg.norm(quat)
    if not np.isfinite(length) or length == 0.0:
        raise ValueError(f"not a rotation: quaternion {quat.tolist()}")
    w, x, y, z = quat / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def matrix_to_quat(rotation: np.ndarray) -> np.ndarray:
    """(3, 3) rotation -> (4,) float64 unit quaternion with w >= 0.

    The eigenvector that belongs to the largest eigenvalue of a symmetric 4x4 matrix (Bar-Itzhack, "New method for
    extracting the quaternion from a rotation matrix", 2000): no case distinctions, and for a matrix with rounding
    errors it gives the nearest rotation.
    """
    r = np.asarray(rotation, dtype=np.float64)
    symmetric = np.empty((4, 4))
    symmetric[0, 0] = np.trace(r)
    symmetric[0, 1:] = symmetric[1:, 0] = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    symmetric[1:, 1:] = r + r.T - np.trace(r) * np.eye(3)
    quat = np.linalg.eigh(symmetric)[1][:, -1]
    first = quat[np.flatnonzero(np.abs(quat) > 1e-12)[0]]  # half turns have w = 0: then the first other part decides
    return np.asarray(quat * np.sign(first), dtype=np.float64)


def quat_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Hamilton product, float64: first rotate by `right`, then by `left`. left: (4,), right: (..., 4)."""
    return np.asarray(right @ product_matrix(left).T)


def product_matrix(left: np.ndarray) -> np.ndarray:
    """(4, 4) float64 matrix M with ``quat_product(left, right) == M @ right``."""
    w, x, y, z = np.asarray(left, dtype=np.float64)
    return np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])


def pose_matrix(pose: Pose) -> np.ndarray:
    """(4, 4) float64, scale included: ``T @ [x, 1]`` is the moved point."""
    matrix = np.eye(4)
    matrix[:3, :3] = pose.scale * quat_to_matrix(pose.quat_wxyz)
    matrix[:3, 3] = pose.translation
    return matrix


def pose_from_matrix(matrix: np.ndarray) -> Pose:
    """The pose of a (4, 4) matrix. Raises ValueError when it mirrors, shears or scales its axes differently."""
    matrix = np.asarray(matrix, dtype=np.float64)
    linear = matrix[:3, :3]
    if not np.isfinite(matrix).all() or (determinant := np.linalg.det(linear)) <= 0.0:
        raise ValueError("not a pose: the matrix mirrors, flattens or is not finite")
    scale = float(np.cbrt(determinant))
    rotation = linear / scale
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4) or not np.allclose(matrix[3], [0, 0, 0, 1]):
        raise ValueError("not a pose: the matrix is not one rotation, one scale and one translation")
    return Pose(matrix_to_quat(rotation), matrix[:3, 3].copy(), scale)


def same_pose(matrix: np.ndarray, pose: Pose) -> bool:
    """Whether a (4, 4) matrix is the matrix of the pose, but for rounding."""
    return bool(np.allclose(matrix, pose_matrix(pose), rtol=1e-7, atol=1e-9))


def compose(outer: Pose, inner: Pose) -> Pose:
    """The pose that moves by `inner` first, then by `outer`."""
    return Pose(
        quat_wxyz=quat_product(outer.quat_wxyz, inner.quat_wxyz),
        translation=outer.scale * (quat_to_matrix(outer.quat_wxyz) @ inner.translation) + outer.translation,
        scale=outer.scale * inner.scale,
    )


def inverse(pose: Pose) -> Pose:
    """The pose that undoes `pose`."""
    conjugate = np.asarray(pose.quat_wxyz, dtype=np.float64) * [1.0, -1.0, -1.0, -1.0]
    scale = 1.0 / pose.scale
    return Pose(conjugate, -scale * (quat_to_matrix(conjugate) @ pose.translation), scale)


def transform_points(pose: Pose, points: np.ndarray) -> np.ndarray:
    """(N, 3) points moved by the pose; float32 in gives float32 out, anything else float64."""
    linear = pose.scale * quat_to_matrix(pose.quat_wxyz)
    moved = np.asarray(points, dtype=np.float64) @ linear.T + pose.translation
    return np.asarray(moved, dtype=np.result_type(points, np.float32))


def transform(gaussians: Gaussians, pose: Pose) -> Gaussians:
    """The Gaussians moved by the pose: means and quats turn, log_scales grow by ln(scale), colours stay.

    Degree-0 colours have no direction, so nothing else depends on the rotation.
    """
    turn = np.asarray(pose.quat_wxyz, dtype=np.float64)
    turn = turn / np.linalg.norm(turn)
    return Gaussians(
        means=transform_points(pose, gaussians.means),
        quats=quat_product(turn, gaussians.quats).astype(np.float32),
        log_scales=gaussians.log_scales + np.float32(np.log(pose.scale)),
        opacity_logits=gaussians.opacity_logits,
        sh0=gaussians.sh0,
    )


def thinned(gaussians: Gaussians, limit: int = _SAMPLE) -> Gaussians:
    """Every k-th Gaussian, at most `limit` of them: enough for bounds and deterministic."""
    step = -(-len(gaussians) // limit) or 1
    return gaussians.take(slice(None, None, step))


def object_bounds(gaussians: Gaussians) -> np.ndarray:
    """(2, 3) float64 axis-aligned box, min and max corner, in the frame of the Gaussians.

    Robust against stray splats: it holds the means with an opacity of at least 0.1 (all of them if none has), except
    for 0.1 % on each side of each axis. Computed from at most 16,384 evenly chosen Gaussians; up to 1,000, nothing is
    left outside. Raises ValueError when there are no Gaussians.
    """
    if not len(gaussians):
        raise ValueError("no Gaussians, no bounds")
    few = thinned(gaussians)
    visible = few.opacity_logits >= _VISIBLE_LOGIT
    means = few.means[visible] if visible.any() else few.means
    means = np.sort(means.astype(np.float64), axis=0)
    outside = int(_TRIM * (len(means) - 1))
    return np.stack([means[outside], means[len(means) - 1 - outside]])


def box_corners(bounds: np.ndarray, pose: Pose) -> np.ndarray:
    """(8, 3) float64 corners of an object-frame box (2, 3) in the camera frame.

    Corner i takes the maximum of x, y, z where bit 2, 1, 0 of i is set: 0 is all minima, 7 all maxima.
    """
    choice = (np.arange(8)[:, None] >> np.array([2, 1, 0])) & 1
    corners = np.take_along_axis(np.asarray(bounds, dtype=np.float64), choice, axis=0)
    return transform_points(pose, corners)
