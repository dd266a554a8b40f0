"""Silhouettes: what the placement compares of the objects of a photo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sam3d_gs.embedded.shape.crops import Crop

WORK_PX = 384  # longer side of the masks at working size
FOOT_SHARE = 0.08  # of an object's height: lowest pixels this close to its lowest point can touch a support


@dataclass(frozen=True)
class Silhouette:
    """The mask of one object at working size, and the shape of its front."""

    mask: np.ndarray  # (h, w) bool at working size
    zoom: float  # working pixels per photo pixel
    crop: Crop
    relative_depth: np.ndarray  # (R, R) depth of the front over the object's depth, on the crop
    lies_flat: bool = False  # a plate or a rug

    @classmethod
    def of(cls, mask: np.ndarray, crop: Crop, relative_depth: np.ndarray, lies_flat: bool = False) -> Silhouette:
        """mask: (H, W) bool at photo size, not empty."""
        height, width = mask.shape
        zoom = min(1.0, WORK_PX / max(height, width))
        if zoom == 1.0:
            return cls(mask, zoom, crop, relative_depth, lies_flat)
        rows = np.minimum(((np.arange(round(height * zoom) or 1) + 0.5) / zoom).astype(int), height - 1)
        columns = np.minimum(((np.arange(round(width * zoom) or 1) + 0.5) / zoom).astype(int), width - 1)
        small = mask[np.ix_(rows, columns)]
        if not small.any():  # smaller than a working pixel: set the pixel that contains it
            at = np.argwhere(mask)[0]
            small[min(int(at[0] * zoom), len(rows) - 1), min(int(at[1] * zoom), len(columns) - 1)] = True
        return cls(small, zoom, crop, relative_depth, lies_flat)

    @cached_property
    def feet(self) -> np.ndarray:
        """(M, 2) int rows and columns of the lowest pixels, which can touch a support."""
        columns = np.flatnonzero(self.mask.any(0))
        lowest = self.mask.shape[0] - 1 - np.argmax(self.mask[::-1, columns], axis=0)
        top = int(np.flatnonzero(self.mask.any(1))[0])
        near = lowest >= lowest.max() - max(1.0, FOOT_SHARE * (lowest.max() - top))
        return np.stack([lowest[near], columns[near]], axis=1)

    @cached_property
    def bottom_row(self) -> int:
        return int(self.feet[:, 0].max())

    @cached_property
    def _filled(self) -> np.ndarray:
        """`relative_depth` with every pixel off the object given the value of the nearest one on it."""
        from scipy.ndimage import distance_transform_edt

        inside = self.crop.coverage > 0.5
        if not inside.any():
            inside = self.crop.coverage >= self.crop.coverage.max()
        nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
        return np.asarray(self.relative_depth[tuple(nearest)])

    def depth_at(self, points: np.ndarray) -> np.ndarray:
        """(M, 2) rows and columns at working size -> (M,) relative depth, of the nearest pixel of the object."""
        size = self.relative_depth.shape[0]
        (u, v), half = self.crop.center_px, self.crop.half_px
        photo = (points + 0.5) / self.zoom
        row = ((photo[:, 0] - v + half) / (2 * half) * size).astype(int).clip(0, size - 1)
        column = ((photo[:, 1] - u + half) / (2 * half) * size).astype(int).clip(0, size - 1)
        return np.asarray(self._filled[row, column])
