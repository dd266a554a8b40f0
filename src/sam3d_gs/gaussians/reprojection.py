"""Does an object land where the photo has it? The overlap of its rendered silhouette with its mask."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sam3d_gs.gaussians.render import Camera, render
from sam3d_gs.types import Gaussians

MAX_SIDE_PX = 512  # larger masks are compared at this size
SILHOUETTE_ALPHA = 0.5


def reprojection_iou(gaussians: Gaussians, K: np.ndarray, mask: np.ndarray, ignore: np.ndarray | None = None) -> float:
    """Intersection over union of the silhouette of `gaussians` (camera frame) and `mask` (H, W) bool, in 0..1.

    `K` (3, 3) belongs to the mask's pixels. `ignore` (H, W) bool marks pixels that say nothing about this object,
    such as the masks of other objects, which may stand in front of it; the object's own mask always counts.
    Both empty gives 0.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"mask is {mask.dtype} {mask.shape}, expected bool (H, W)")
    height, width = mask.shape
    shrink = min(1.0, MAX_SIDE_PX / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    # Pixel edges, not centres, sit at integers, so K scales without an offset.
    scaled_K = np.diag([size[0] / width, size[1] / height, 1.0]) @ K
    silhouette = render(gaussians, Camera(scaled_K, *size, np.eye(4)), None).alpha > SILHOUETTE_ALPHA
    wanted = _resized(mask, size)
    if ignore is not None:
        silhouette &= wanted | ~_resized(ignore, size)
    union = np.count_nonzero(silhouette | wanted)
    return np.count_nonzero(silhouette & wanted) / union if union else 0.0


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The new pixels of which at least half is covered."""
    if mask.shape == size[::-1]:
        return mask
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(grey.resize(size, Image.Resampling.BOX)) > 127
