"""The square crop of a photo around one object: input of the network and frame of its depth layers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

CROP_PX = 160  # side of the crop, unless the network has another one
CROP_MARGIN = 1.08  # crop side over the longer side of the mask's box, as in training


@dataclass(frozen=True)
class Crop:
    """The square around one mask, resampled for the network."""

    rgb: np.ndarray  # (R, R, 3) float32 0..1, colours of the object's pixels only
    coverage: np.ndarray  # (R, R) float32 0..1, share of each crop pixel inside the mask
    center_px: tuple[float, float]  # (u, v) in the photo
    half_px: float  # half the crop's side in photo pixels


def bounding_slices(mask: np.ndarray) -> tuple[slice, slice]:
    """Row and column slices of the bounding box of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def crop_object(rgb: np.ndarray, mask: np.ndarray, side_px: int = CROP_PX, margin: float = CROP_MARGIN) -> Crop:
    """Cut the square around `mask` out of a photo.

    rgb: (H, W, 3) uint8. mask: (H, W) bool, not empty. margin: crop side over the longer side of the mask's box.
    Colours are averaged over the object's pixels only, so the background does not bleed in at the edge.
    """
    rows, columns = bounding_slices(mask)
    u, v = (columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2
    side = max(columns.stop - columns.start, rows.stop - rows.start)
    half = side / 2 * margin
    center = float(u), float(v)
    coverage = resample_square(mask.astype(np.float32), center, half, side_px, Image.Resampling.BOX)
    planes = [rgb[..., c] * (mask / np.float32(255)) for c in range(3)]
    weighted = np.stack([resample_square(p, center, half, side_px, Image.Resampling.BOX) for p in planes], axis=-1)
    colour = weighted / np.maximum(coverage, 0.05)[..., None]
    return Crop(np.clip(colour, 0, 1), coverage, center, float(half))


def with_coverage(crop: Crop, mask: np.ndarray) -> Crop:
    """The crop with the coverage of another mask, (H, W) bool, and the same colours."""
    square = crop.center_px, crop.half_px, len(crop.coverage), Image.Resampling.BOX
    return replace(crop, coverage=resample_square(mask.astype(np.float32), *square))


def cut_square(
    plane: np.ndarray, center_px: tuple[float, float], half_px: float
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The pixels of an (H, W) plane around a square, 0 outside the plane, and the square's exact box in them."""
    (u, v), half = center_px, half_px
    left, top = int(np.floor(u - half)) - 1, int(np.floor(v - half)) - 1
    size = int(np.ceil(2 * half)) + 3
    square = np.zeros((size, size), np.float32)
    height, width = plane.shape
    rows = slice(max(top, 0), min(top + size, height))
    columns = slice(max(left, 0), min(left + size, width))
    square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = plane[rows, columns]
    return square, (u - half - left, v - half - top, u + half - left, v + half - top)


def resample_square(
    plane: np.ndarray, center_px: tuple[float, float], half_px: float, side: int, how: Image.Resampling
) -> np.ndarray:
    """A square of an (H, W) plane, resampled with anti-aliasing to (side, side) float32."""
    square, box = cut_square(plane, center_px, half_px)
    return np.asarray(Image.fromarray(square).resize((side, side), how, box=box), np.float32)
