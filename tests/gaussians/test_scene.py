"""What is said about placed objects: boxes and the direction up."""

from __future__ import annotations

import numpy as np
import pytest

from sam3d_gs.errors import BadInputError
from sam3d_gs.gaussians.pose import object_bounds, transform, transform_points
from sam3d_gs.gaussians.scene import describe_object, describe_scene, scene_up
from sam3d_gs.types import Pose
from tests.gaussians.helpers import random_object


def test_boxes_hold_the_object() -> None:
    obj = random_object(n=50_000)
    described = describe_object(obj, 0.5, {"ply": "a.ply"})
    np.testing.assert_allclose(described.aabb, object_bounds(transform(obj.gaussians, obj.pose)), atol=0.02)
    low, high = object_bounds(obj.gaussians)
    np.testing.assert_allclose(described.obb[0], transform_points(obj.pose, low[None])[0], atol=1e-9)
    np.testing.assert_allclose(described.obb[7], transform_points(obj.pose, high[None])[0], atol=1e-9)
    assert (described.gaussians, described.reprojection_iou, described.files) == (50_000, 0.5, {"ply": "a.ply"})


def test_no_objects_make_no_scene() -> None:
    with pytest.raises(BadInputError, match="no objects"):
        describe_scene("photo", [])


def tilted(angle_deg: float) -> Pose:
    """Object z turned by the angle about the camera's x axis; at 90 degrees it is up in a level photo."""
    half = np.radians(angle_deg) / 2
    return Pose(np.array([np.cos(half), np.sin(half), 0.0, 0.0]), np.array([0.0, 0.0, 4.0]), 1.0)


def test_up_is_the_mean_of_the_objects_ups() -> None:
    np.testing.assert_allclose(scene_up([tilted(90)]), [0, -1, 0], atol=1e-12)
    tilt = np.radians(20)
    np.testing.assert_allclose(scene_up([tilted(60), tilted(80)]), [0, -np.cos(tilt), np.sin(tilt)], atol=1e-12)


@pytest.mark.parametrize("angles", [(0, 180), (10, 190.5), (0, 120, 241)])
def test_ups_that_cancel_say_nothing_so_the_camera_decides(angles: tuple[float, ...]) -> None:
    np.testing.assert_array_equal(scene_up([tilted(angle) for angle in angles]), [0, -1, 0])
