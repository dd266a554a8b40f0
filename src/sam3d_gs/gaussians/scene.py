"""What the scene JSON says about placed objects: their boxes, the direction up, how well they fit their masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sam3d_gs.gaussians.merge import check_same_photo
from sam3d_gs.gaussians.pose import box_corners, object_bounds, pose_matrix, quat_to_matrix, thinned, transform
from sam3d_gs.gaussians.reprojection import MaskFit
from sam3d_gs.types import InstanceMask, ObjectDescription, PlacedObject, Pose, SceneDescription

_LEAST_UP = 0.1  # length of the mean of the objects' up axes below which they cancel


def describe_scene(photo: str, objects: Sequence[PlacedObject], masks: Sequence[InstanceMask] = ()) -> SceneDescription:
    """The scene of objects in memory.

    Args:
        photo: its name.
        objects: of one photo, each with its Gaussians in its object frame.
        masks: of the photo; an object without a mask of its id has no reprojection IoU.

    Raises BadInputError naming the object when there are none or they do not belong to one photo, MissingPackageError
    without numba when there are masks.
    """
    check_same_photo(objects)
    first, fit = objects[0], MaskFit(masks)
    described = tuple(describe_object(obj, fit.iou(obj), {}) for obj in objects)
    return SceneDescription(
        photo, first.K, first.image_size, first.scale_source, scene_up([o.pose for o in objects]), described
    )


def describe_object(obj: PlacedObject, iou: float | None, files: Mapping[str, str]) -> ObjectDescription:
    """One object of the scene JSON. `files`: kind -> path below the workspace."""
    few = thinned(obj.gaussians)
    return ObjectDescription(
        object_id=obj.object_id,
        phrase=obj.phrase,
        scores=obj.scores,
        T_camera_object=pose_matrix(obj.pose),
        aabb=object_bounds(transform(few, obj.pose)),
        obb=box_corners(object_bounds(few), obj.pose),
        gaussians=len(obj.gaussians),
        files=files,
        reprojection_iou=iou,
    )


def scene_up(poses: Sequence[Pose]) -> np.ndarray:
    """(3,) float64 unit vector against gravity in the camera frame: the mean of the objects' own up axes (their z).

    When they cancel, the camera's own up.
    """
    ups = [quat_to_matrix(pose.quat_wxyz)[:, 2] for pose in poses]
    total = np.sum(ups, axis=0)
    length = float(np.linalg.norm(total))
    return total / length if length > _LEAST_UP * len(ups) else np.array([0.0, -1.0, 0.0])
