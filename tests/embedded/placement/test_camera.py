"""From the network's view along an object's own ray to depth along the camera's axis."""

from __future__ import annotations

import numpy as np
import pytest

from sam3d_gs.embedded.placement.camera import depth_along_camera_axis
from sam3d_gs.embedded.shape.crops import Crop
from sam3d_gs.embedded.shape.object_net import DepthLayers
from sam3d_gs.embedded.shape.surfel_builder import relative_depth
from sam3d_gs.photo import intrinsics

SIDE = 40


@pytest.mark.parametrize("column_px", [150.0, 500.0, 850.0])
def test_a_card_seen_square_on_stands_square_to_its_ray(column_px: float) -> None:
    """What the network sees as flat is perpendicular to the ray of its middle, not to the camera's axis."""
    K = intrinsics(1000, 750, None, 55.0)
    ones = np.ones((SIDE, SIDE), np.float32)
    crop = Crop(np.zeros((SIDE, SIDE, 3), np.float32), ones, (column_px, 375.0), 60.0)
    flat = DepthLayers(0 * ones, ones, np.zeros((SIDE, SIDE, 3), np.float32), ones)
    depth = relative_depth(crop, depth_along_camera_axis(crop, flat, K), K)

    u = column_px - 60.0 + (np.arange(SIDE) + 0.5) * 120.0 / SIDE
    v = 375.0 - 60.0 + (np.arange(SIDE) + 0.5) * 120.0 / SIDE
    x, y = np.meshgrid((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1])
    points = np.stack([x * depth, y * depth, depth], -1).reshape(-1, 3)
    normal = np.linalg.svd(points - points.mean(0))[2][2]
    ray = np.array([(column_px - K[0, 2]) / K[0, 0], 0.0, 1.0])
    cosine = abs(normal @ ray) / np.linalg.norm(ray)
    assert np.degrees(np.arccos(min(cosine, 1.0))) < 2.0
    assert depth.mean() == pytest.approx(1.0, abs=1e-3)
