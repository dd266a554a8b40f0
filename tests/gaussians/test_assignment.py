"""Gaussians of an edited scene find their objects again."""

from __future__ import annotations

import numpy as np
import pytest

from sam3d_gs.gaussians.assignment import assign
from sam3d_gs.gaussians.pose import box_corners
from sam3d_gs.types import Pose

RNG = np.random.default_rng(0)
STILL = Pose(np.array([1.0, 0, 0, 0]), np.zeros(3), 1.0)
CENTRES = np.array([[0.0, 0, 3], [1.5, 0, 3], [0, 1.5, 4]])


def cubes(scale: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Means (float32) and boxes of three unit cubes, `scale` times as large."""
    means = [((RNG.random((500, 3)) - 0.5 + centre) * scale).astype(np.float32) for centre in CENTRES]
    boxes = [box_corners(np.stack([centre - 0.5, centre + 0.5]) * scale, STILL) for centre in CENTRES]
    return means, boxes


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("relative_error", [0.0, 1e-7, 4e-7])
def test_in_any_order_and_to_float_rounding(scale: float, relative_error: float) -> None:
    means, boxes = cubes(scale)
    owners = np.repeat(np.arange(3), 500)
    order = RNG.permutation(1500)[:1100]
    edited = np.concatenate(means)[order] * (1 + relative_error * RNG.choice([-1, 1], (1100, 3)))
    found = assign(edited.astype(np.float32), means, boxes)
    assert found.matched.all()
    np.testing.assert_array_equal(found.object_index, owners[order])


def test_moved_ones_belong_to_the_box_around_them_or_to_none() -> None:
    means, boxes = cubes(1.0)
    inside, near, away = CENTRES[1] + 0.123, CENTRES[2] + [0, 0, 0.55], np.array([0, 0, 90.0])
    found = assign(np.stack([inside, near, away]), means, boxes)
    np.testing.assert_array_equal(found.object_index, [1, 2, -1])
    assert not found.matched.any()


def test_where_boxes_overlap_the_nearer_centre_counts() -> None:
    means, _ = cubes(1.0)
    boxes = [box_corners(np.array([[-1.0, -1, -1], [1, 1, 1]]) + shift, STILL) for shift in (0.0, 0.5, 9.0)]
    found = assign(np.array([[0.1, 0.1, 0.1], [0.6, 0.6, 0.6]]), means, boxes)
    np.testing.assert_array_equal(found.object_index, [0, 1])


def test_a_floater_far_away_does_not_make_the_others_coarse() -> None:
    means, boxes = cubes(1.0)
    means[0][:3] = 1e6
    found = assign(np.concatenate(means)[3:], means, boxes)
    assert found.matched.all()
