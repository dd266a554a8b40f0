"""What EXIF does to a photo's pixels, done to its camera."""

from __future__ import annotations

SWAPPING = (5, 6, 7, 8)  # orientations that exchange width and height


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
