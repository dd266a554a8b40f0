"""Frames that other programs expect, as rotations of the photo's camera frame (x right, y down, z forward).

All are right-handed. `opencv` and `opengl` stay with the camera. The others stand on the floor: their origin is the
point of the floor straight below the camera, and the photo looks along their forward axis.
"""

from __future__ import annotations

import numpy as np

AXES = {
    "opencv": "camera of the photo, OpenCV: x right, y down, z forward",
    "opengl": "camera of the photo, OpenGL: x right, y up, z back",
    "y-up": "on the floor below the camera: x right, y up, z back",
    "z-up": "on the floor below the camera: x right, y forward, z up",
    "ros": "on the floor below the camera, REP 103: x forward, y left, z up",
}
OF_CAMERA = ("opencv", "opengl")  # their origin is the camera
SPZ_AXES = ("opengl", "y-up")  # x right, y up, z back, as the .spz format has it
_STEEP = 1e-3  # sine of the angle between view and plumb line below which the picture's up is forward


def rotation_from_camera(frame: str, up: np.ndarray) -> np.ndarray:
    """(3, 3) float64 rotation from the camera frame to one of AXES.

    up: (3,) unit vector against gravity, camera frame; not used for the frames in OF_CAMERA.
    """
    right, down, forward = np.eye(3)
    if frame not in OF_CAMERA:
        down = -np.asarray(up, np.float64) / np.linalg.norm(up)
        level = forward - (forward @ down) * down
        if (
            np.linalg.norm(level) < _STEEP
        ):  # the camera looks straight down or up: the top of the picture is forward then
            level = -np.eye(3)[1] * np.sign(forward @ down)
            level = level - (level @ down) * down
        forward = level / np.linalg.norm(level)
        right = np.cross(down, forward)
    rows = {
        "opencv": (right, down, forward),
        "opengl": (right, -down, -forward),
        "y-up": (right, -down, -forward),
        "z-up": (right, forward, -down),
        "ros": (forward, -right, -down),
    }
    return np.stack(rows[frame])
