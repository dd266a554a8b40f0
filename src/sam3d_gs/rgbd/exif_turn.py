"""What EXIF does to a photo's pixels, done to its depth map and camera.

Cameras store the sensor's rows and columns, and in EXIF how to turn them upright. Photos are opened upright; depth and
intrinsics that come with them may still be the sensor's.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

_TAG = 0x0112
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")  # those with EXIF; no other decoder is started
UPRIGHT = 1
SWAPPING = (5, 6, 7, 8)  # orientations that exchange width and height


def orientation(photo: Path) -> int:
    """EXIF orientation of a photo's file, 1 to 8; 1, upright, if it has none or cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(photo, formats=_FORMATS) as image:
                found = image.getexif().get(_TAG, UPRIGHT)
    except Exception:  # the photo was opened before; its EXIF block may be damaged
        return UPRIGHT
    return found if found in range(1, 9) else UPRIGHT


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """(h, w) in the sensor's rows and columns -> upright, as Pillow turns photos."""
    turns = {
        2: lambda v: v[:, ::-1],
        3: lambda v: v[::-1, ::-1],
        4: lambda v: v[::-1],
        5: lambda v: v.T,
        6: lambda v: np.rot90(v, -1),
        7: lambda v: v[::-1, ::-1].T,
        8: lambda v: np.rot90(v),
    }
    return np.ascontiguousarray(turns[orientation](values)) if orientation in turns else values


def turned_camera(
    camera: tuple[float, float, float, float], size: tuple[float, float], orientation: int
) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy in pixels of a sensor's (width, height) `size` -> in those of the upright picture."""
    fx, fy, cx, cy = camera
    mirrored_x, mirrored_y = size[0] - cx, size[1] - cy
    turns = {
        2: (fx, fy, mirrored_x, cy),
        3: (fx, fy, mirrored_x, mirrored_y),
        4: (fx, fy, cx, mirrored_y),
        5: (fy, fx, cy, cx),
        6: (fy, fx, mirrored_y, cx),
        7: (fy, fx, mirrored_y, mirrored_x),
        8: (fy, fx, cy, mirrored_x),
    }
    return turns.get(orientation, camera)
