"""Objects and their description in another frame than the camera's, or at another scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam3d_gs.gaussians.frames import OF_CAMERA, rotation_from_camera
from sam3d_gs.gaussians.pose import matrix_to_quat, object_bounds, pose_matrix, transform, transform_points
from sam3d_gs.types import Gaussians, Pose, SceneDescription


@dataclass(frozen=True)
class Moved:
    """Objects in a frame of `frames.AXES`."""

    parts: Sequence[Gaussians]  # of each object, in the frame
    boxes: Sequence[np.ndarray]  # (2, 3) of each object: min and max corner, robust as in `object_bounds`
    motion: Pose  # from the camera frame to this one
    up: np.ndarray  # (3,) unit vector against gravity, in the frame


def move_to_frame(parts: Sequence[Gaussians], up: np.ndarray, frame: str, scale: float = 1.0) -> Moved:
    """Objects moved from the camera frame to another one.

    Args:
        parts: Gaussians of each object, camera frame.
        up: (3,) unit vector against gravity, camera frame.
        frame: a key of `frames.AXES`. Those on the floor have the lowest corner of all boxes at height 0.
        scale: units of the frame per scene unit.
    """
    rotation = rotation_from_camera(frame, up)
    motion = Pose(matrix_to_quat(rotation), np.zeros(3), scale)
    parts = [transform(part, motion) for part in parts]
    boxes = [object_bounds(part) for part in parts]
    up = rotation @ up
    if frame not in OF_CAMERA and boxes:  # up is an axis here, so the lowest corner of a box is its minimum along it
        lift = -min(float((box @ up).min()) for box in boxes) * up
        motion = replace(motion, translation=lift)
        parts = [replace(part, means=part.means + lift.astype(np.float32)) for part in parts]
        boxes = [box + lift for box in boxes]
    return Moved(parts, boxes, motion, up)


def moved_scene(scene: SceneDescription, moved: Moved) -> SceneDescription:
    """The description of a scene (camera frame) in the frame that its objects were moved to."""
    matrix = pose_matrix(moved.motion)
    objects = tuple(
        replace(
            item,
            T_camera_object=matrix @ item.T_camera_object,
            aabb=box,
            obb=transform_points(moved.motion, item.obb),
        )
        for item, box in zip(scene.objects, moved.boxes, strict=True)
    )
    return replace(scene, up=moved.up, objects=objects)
