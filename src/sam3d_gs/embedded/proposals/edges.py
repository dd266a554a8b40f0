"""Refine coarse masks so that their edges follow the photo at full resolution, and clean up small parts and holes.

Uses the guided filter of He, Sun and Tang (2010) in its fast form (He and Sun 2015): around every pixel the mask is
fitted as a linear function of the photo's colours, at low resolution, and the fit is evaluated at full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

_RADIUS_SHARE = 1 / 64  # window radius, as a share of the longer side of the small image
_SMOOTHNESS = 4e-4  # epsilon of the filter, for colours in 0..1: windows of less variance are only blurred
_BLUR_PX = 1.0  # removes single-pixel threads of noise, which the fit follows
_ISLAND_SHARE = 0.15  # parts smaller than this share of the largest part are dropped
_HOLE_SHARE = 0.01  # holes smaller than this share of the mask are filled


@dataclass(frozen=True)
class Guide:
    """Precomputed statistics of one photo, shared by all its masks."""

    rgb: np.ndarray  # (H, W, 3) uint8, the photo
    small: np.ndarray  # (h, w, 3) float32 in 0..1, the photo at the size of the coarse masks
    radius: int  # px at the small size
    mean: np.ndarray  # (h, w, 3) float32
    precision: np.ndarray  # (h, w, 3, 3) float32, inverse of the colour covariance

    @classmethod
    def of(cls, rgb: np.ndarray, small: np.ndarray) -> Guide:
        colours = small.astype(np.float32) / 255
        radius = max(2, round(max(small.shape[:2]) * _RADIUS_SHARE))
        mean = _box(colours, radius)
        products = _box(colours[..., :, None] * colours[..., None, :], radius)
        covariance = products - mean[..., :, None] * mean[..., None, :]
        return cls(rgb, colours, radius, mean, _inverse(covariance + _SMOOTHNESS * np.eye(3, dtype=np.float32)))


def refine_mask(guide: Guide, coarse: np.ndarray) -> np.ndarray:
    """Upsample `coarse`, (h, w) bool at the small size, to (H, W) bool along the photo's edges, and clean it."""
    height, width = guide.rgb.shape[:2]
    result = np.zeros((height, width), bool)
    if not coarse.any():
        return result
    # Work on the mask's neighbourhood only. Windows reach one radius, the upsampling one more pixel.
    margin = 3 * guide.radius + 2
    top, bottom, left, right = _window(coarse, margin)
    here = np.s_[top:bottom, left:right]
    colours, mean = guide.small[here], guide.mean[here]

    wanted = _smoothed(coarse[here])
    average = _box(wanted, guide.radius)
    covariance = _box(colours * wanted[..., None], guide.radius) - mean * average[..., None]
    slope = np.einsum("hwij,hwj->hwi", guide.precision[here], covariance)
    offset = average - (slope * mean).sum(-1)
    fit = _box(np.concatenate((slope, offset[..., None]), -1), guide.radius)

    rows = round(top * height / coarse.shape[0]), round(bottom * height / coarse.shape[0])
    columns = round(left * width / coarse.shape[1]), round(right * width / coarse.shape[1])
    if rows[0] == rows[1] or columns[0] == columns[1]:
        return result
    size = rows[1] - rows[0], columns[1] - columns[0]
    large = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
    alpha = _upsampled(fit[..., 3], size)
    for channel in range(3):
        alpha += _upsampled(fit[..., channel], size) * (guide.rgb[large][..., channel] * np.float32(1 / 255))
    result[large] = clean_mask(ndimage.gaussian_filter(alpha, _BLUR_PX, truncate=2.0) > 0.5)
    return result


def _inverse(matrices: np.ndarray) -> np.ndarray:
    """Inverse of (..., 3, 3) symmetric matrices: columns of cofactors are cross products of rows."""
    first, second, third = np.moveaxis(matrices, -2, 0)
    columns = np.stack((np.cross(second, third), np.cross(third, first), np.cross(first, second)), -1)
    return np.asarray(columns / (first * columns[..., 0]).sum(-1)[..., None, None])


def clean_mask(mask: np.ndarray) -> np.ndarray:
    """`mask` (H, W) bool without its small connected parts and without small holes."""
    if not mask.any():
        return mask
    top, bottom, left, right = _window(mask, 1)  # with a margin, everything outside is one background component
    result = np.zeros_like(mask)
    result[top:bottom, left:right] = _without_holes(_without_islands(mask[top:bottom, left:right]))
    return result


def _without_islands(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = sizes >= _ISLAND_SHARE * sizes.max()
    keep[0] = False
    return np.asarray(keep[labels])


def _without_holes(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(~mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    fill = sizes < _HOLE_SHARE * mask.sum()
    fill[0] = False
    return np.asarray(mask | fill[labels])


def _smoothed(mask: np.ndarray) -> np.ndarray:
    """Soft mask, float32 in 0..1, without the thin spurs that superpixels leave."""
    sigma = max(1.0, 0.012 * float(mask.sum()) ** 0.5)
    return np.clip(ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=2.5) * 2 - 0.5, 0, 1)


def _box(values: np.ndarray, radius: int) -> np.ndarray:
    """Mean over windows of 2 radius + 1 along the first two axes."""
    size = 2 * radius + 1
    along_rows = ndimage.uniform_filter1d(values, size, axis=0, mode="nearest")
    return ndimage.uniform_filter1d(along_rows, size, axis=1, mode="nearest")


def _upsampled(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(values))
    return np.array(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _window(mask: np.ndarray, margin: int) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        max(int(rows[0]) - margin, 0),
        min(int(rows[-1]) + 1 + margin, mask.shape[0]),
        max(int(columns[0]) - margin, 0),
        min(int(columns[-1]) + 1 + margin, mask.shape[1]),
    )
