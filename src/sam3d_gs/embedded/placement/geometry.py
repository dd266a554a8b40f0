"""The geometry of a photo as the mask net's geometry head tells it: how far everything is, and where the horizon lies.

The head is trained on made scenes only. What it says is therefore never the last word: `pitch` and `placement` weigh it
against what the objects themselves and the ground under them say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from sam3d_gs.embedded.proposals.mask_net import STRIDE_PX, MaskNet

PLAIN = 8  # of 255: what varies less, but for a twentieth at either end, is one colour
LEAST_AROUND = 0.02  # of the photo: with less around the masks, that says nothing
SIDE_PX = 320  # the photo's longer side as the head sees it, as in training


@dataclass(frozen=True)
class SceneGeometry:
    """Two pictures of the whole photo, (h, w) float32 each."""

    log_depth: np.ndarray  # natural log of the depth along the camera's axis, up to a constant
    rise: np.ndarray  # sine of the angle of the pixel's ray above the horizon


def read_geometry(net: MaskNet, rgb: np.ndarray) -> SceneGeometry | None:
    """What `net` says of the photo `rgb`, (H, W, 3) uint8, and of its mirror image, in the mean.

    None when it has no geometry head.
    """
    if not net.config.geometry:
        return None
    zoom = SIDE_PX / max(rgb.shape[:2])
    rows, columns = (max(1, round(side * zoom / STRIDE_PX)) * STRIDE_PX for side in rgb.shape[:2])
    small = Image.fromarray(rgb).resize((columns, rows), Image.Resampling.BILINEAR, reducing_gap=2.0)
    x = torch.from_numpy(np.asarray(small, np.float32) / 255).permute(2, 0, 1)
    with torch.inference_mode():
        said = net.geometry_of(torch.stack([x, x.flip(-1)]).contiguous(memory_format=torch.channels_last))
    log_inverse_depth, rise = (
        (plane[0] + plane[1].flip(-1)).numpy() / 2 for plane in (said.log_inverse_depth, said.rise)
    )
    return SceneGeometry(-log_inverse_depth, rise)


def shows_surroundings(rgb: np.ndarray, masks: Sequence[np.ndarray]) -> bool:
    """Whether the photo `rgb` (H, W, 3) uint8 shows more than its `masks` (H, W) bool on a plain ground.

    A cut-out has no horizon; asked for it, the network sees a table top from steeply above.
    """
    around = rgb[~np.logical_or.reduce(masks)]
    if len(around) < LEAST_AROUND * masks[0].size:
        return True
    low, high = np.percentile(around[:: max(1, len(around) // 100_000)], (5, 95), axis=0)
    return bool((high - low).max() > PLAIN)


def pitch_of_horizon_deg(geometry: SceneGeometry, K: np.ndarray, size_px: tuple[int, int]) -> float:
    """How far the camera looks below the horizon. K: (3, 3) px of the photo of `size_px` (width, height).

    The sine of a ray's angle above the horizon is its product with the direction against gravity, so that direction is
    a linear least-squares fit.
    """
    height, width = geometry.rise.shape
    u = (np.arange(width) + 0.5) * (size_px[0] / width)
    v = (np.arange(height) + 0.5) * (size_px[1] / height)
    x, y = np.meshgrid((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1])
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    up, *_ = np.linalg.lstsq(rays, geometry.rise.ravel(), rcond=None)
    return math.degrees(math.atan2(-up[2], -up[1]))


def log_depths(geometry: SceneGeometry, masks: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) natural log of the median depth of what each of the masks, (H, W) bool and not empty, shows."""
    return np.array([np.median(geometry.log_depth[_shrunk(mask, geometry.log_depth.shape)]) for mask in masks])


def _shrunk(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) bool: the pixels that the mask covers for the most part, or those that it covers most."""
    height, width = shape
    share = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    covered = np.asarray(share)
    return np.asarray(covered >= min(0.5, float(covered.max())))
