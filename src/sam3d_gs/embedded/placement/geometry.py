"""Scene geometry predicted by the mask network's geometry head: depth and the elevation of every pixel's ray.

The head is trained on synthetic scenes only, so `pitch` and `object_depths` combine its predictions with those from the
objects and from the ground.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from sam3d_gs.embedded.proposals.mask_net import STRIDE_PX, MaskNet

UNIFORM_RANGE = 8  # 8-bit levels between the 5th and 95th percentile: a background that varies less is plain
MIN_BACKGROUND = 0.02  # share of the photo: a smaller background is not judged
SIDE_PX = 320  # longer side of the head's input, as in training


@dataclass(frozen=True)
class SceneGeometry:
    """Predictions for the whole photo, (h, w) float32 each."""

    log_depth: np.ndarray  # natural log of the depth along the camera's axis, up to a constant
    sin_elevation: np.ndarray  # sine of the angle of the pixel's ray above the horizon


def predict_geometry(net: MaskNet, rgb: np.ndarray) -> SceneGeometry | None:
    """Mean of the predictions for the photo `rgb`, (H, W, 3) uint8, and for its mirror image.

    None when `net` has no geometry head.
    """
    if not net.config.geometry:
        return None
    zoom = SIDE_PX / max(rgb.shape[:2])
    rows, columns = (max(1, round(side * zoom / STRIDE_PX)) * STRIDE_PX for side in rgb.shape[:2])
    small = Image.fromarray(rgb).resize((columns, rows), Image.Resampling.BILINEAR, reducing_gap=2.0)
    x = torch.from_numpy(np.asarray(small, np.float32) / 255).permute(2, 0, 1)
    with torch.inference_mode():
        predicted = net.geometry_of(torch.stack([x, x.flip(-1)]).contiguous(memory_format=torch.channels_last))
    log_inverse_depth, sin_elevation = (
        (plane[0] + plane[1].flip(-1)).numpy() / 2 for plane in (predicted.log_inverse_depth, predicted.sin_elevation)
    )
    return SceneGeometry(-log_inverse_depth, sin_elevation)


def shows_background(rgb: np.ndarray, masks: Sequence[np.ndarray]) -> bool:
    """Whether the photo `rgb`, (H, W, 3) uint8, has a background around the `masks`, (H, W) bool, that is not plain.

    Cut-outs have no horizon; for them the network predicts a table top seen from steeply above.
    """
    around = rgb[~np.logical_or.reduce(masks)]
    if len(around) < MIN_BACKGROUND * masks[0].size:
        return True
    low, high = np.percentile(around[:: max(1, len(around) // 100_000)], (5, 95), axis=0)
    return bool((high - low).max() > UNIFORM_RANGE)


def horizon_pitch_deg(geometry: SceneGeometry, K: np.ndarray, size_px: tuple[int, int]) -> float:
    """Angle of the camera's axis below the horizon. K: (3, 3) px, for a photo of `size_px` (width, height).

    The sine of a ray's elevation is its dot product with the up direction, so up is a linear least-squares fit.
    """
    height, width = geometry.sin_elevation.shape
    u = (np.arange(width) + 0.5) * (size_px[0] / width)
    v = (np.arange(height) + 0.5) * (size_px[1] / height)
    x, y = np.meshgrid((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1])
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    up, *_ = np.linalg.lstsq(rays, geometry.sin_elevation.ravel(), rcond=None)
    return math.degrees(math.atan2(-up[2], -up[1]))


def median_log_depths(geometry: SceneGeometry, masks: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) natural log of the median depth within each mask, (H, W) bool, not empty."""
    return np.array([np.median(geometry.log_depth[_downscaled(mask, geometry.log_depth.shape)]) for mask in masks])


def _downscaled(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) bool: the pixels of which the mask covers half or more; if there are none, those that it covers most."""
    height, width = shape
    share = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    covered = np.asarray(share)
    return np.asarray(covered >= min(0.5, float(covered.max())))
