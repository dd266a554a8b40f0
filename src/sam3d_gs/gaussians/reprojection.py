"""Reprojection IoU: how well an object's rendered silhouette covers its mask in the photo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from sam3d_gs.gaussians.pose import transform
from sam3d_gs.gaussians.render import Camera, render
from sam3d_gs.masks.occlusion import OtherMasks
from sam3d_gs.types import Gaussians, InstanceMask, PlacedObject

LOW_IOU = 0.5  # below, an object is not where its mask is
MAX_SIDE_PX = 512  # larger masks are compared at this size
SILHOUETTE_ALPHA = 0.5


class MaskFit:
    """Reprojection IoUs of the objects of one photo; the union of all other masks costs the same for each object."""

    def __init__(self, masks: Sequence[InstanceMask]) -> None:
        """masks: all of the photo; dropped ones do not count."""
        self._masks = {mask.object_id: mask.mask for mask in masks if mask.dropped is None}
        self._others = OtherMasks(list(self._masks.values()))

    def iou(self, obj: PlacedObject) -> float | None:
        """Against the object's own mask, in 0..1; None when it has none.

        Pixels of other objects' masks do not count, as those objects may stand in front.
        """
        mask = self._masks.get(obj.object_id)
        if mask is None:
            return None
        others = self._others.without(list(self._masks).index(obj.object_id))
        return reprojection_iou(transform(obj.gaussians, obj.pose), obj.K, mask, others)


def reprojection_iou(gaussians: Gaussians, K: np.ndarray, mask: np.ndarray, ignore: np.ndarray | None = None) -> float:
    """Intersection over union of the silhouette of `gaussians` (camera frame) and `mask` (H, W) bool, in 0..1.

    `K` (3, 3) belongs to the mask's pixels. `ignore` (H, W) bool marks pixels that do not count, such as the masks of
    other objects; the object's own mask always counts. An empty silhouette and an empty mask give 0.
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
    """The mask at `size` (width, height): pixels of which at least half is covered."""
    if mask.shape == size[::-1]:
        return mask
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(grey.resize(size, Image.Resampling.BOX)) > 127
