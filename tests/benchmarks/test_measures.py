"""The yardsticks: zero for the truth, invariant to what a photo cannot tell, and sensitive to the rest."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from measures import (
    chamfer,
    chamfer_percent,
    direction_error_deg,
    pairs_in_order,
    relative_depth_errors,
    surface_samples,
)

from sam3d_gs.types import Gaussians


def sphere(count: int, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True) + (0.3, 0.1, 6.0)


def test_chamfer_is_zero_only_for_the_same_points() -> None:
    points = sphere(500, 0)
    assert chamfer(points, points) == 0
    assert chamfer(points, points + np.array((5.0, 0, 0))) > 3
    assert chamfer(points[:250], points) == pytest.approx(chamfer(points, points[:250]))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.2, 1.0, 7.0])
def test_distance_from_the_camera_does_not_count(scale: float) -> None:
    floor = chamfer_percent(sphere(2000, 1), sphere(2000, 0))
    assert chamfer_percent(scale * sphere(2000, 1), sphere(2000, 0)) == pytest.approx(floor, rel=0.05)


def test_shape_does_count() -> None:
    true = sphere(2000, 0)
    flat = sphere(2000, 1)
    flat[:, 2] = 6 + 0.2 * (flat[:, 2] - 6)
    assert chamfer_percent(flat, true) > 3 * chamfer_percent(sphere(2000, 1), true)


def test_depths_are_compared_after_one_scale_for_all() -> None:
    np.testing.assert_allclose(relative_depth_errors([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]), 0, atol=1e-12)
    np.testing.assert_allclose(relative_depth_errors([2.0, 4.0, 6.6], [1.0, 2.0, 3.0]), [0, 0, 0.1], atol=1e-12)


def test_direction_error_is_an_angle() -> None:
    assert direction_error_deg(np.array([0, 0, 2.0]), np.array([0, 1.0, 1.0])) == pytest.approx(45)


def test_surface_samples_follow_opacity_and_area() -> None:
    """Three Gaussians: one large, one small, one large but clear; the smallest scale is the thickness."""
    means = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]], np.float32)
    log_scales = np.log(np.array([[0.2, 0.01, 0.2], [0.1, 0.1, 0.01], [0.01, 0.2, 0.2]], np.float32))
    quats, sh0 = np.tile(np.float32([1, 0, 0, 0]), (3, 1)), np.zeros((3, 3), np.float32)
    points = surface_samples(Gaussians(means, quats, log_scales, np.float32([20, 20, -20]), sh0), 4000)
    shares = np.bincount(points[:, 0].astype(int), minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.8, 0.2, 0.0], atol=0.03)


def test_order_counts_pairs_that_are_apart() -> None:
    assert pairs_in_order([1, 2, 3], [2, 4, 6]) == [True, True, True]
    assert pairs_in_order([3, 2, 1], [2, 4, 6]) == [False, False, False]
    assert pairs_in_order([1, 3, 2], [2, 4, 6]) == [True, True, False]
    assert pairs_in_order([2, 1], [2, 2.05]) == []
