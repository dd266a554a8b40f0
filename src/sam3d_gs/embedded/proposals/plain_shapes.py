"""Shapes the net overlooks because they look like nothing: a plain, closed patch of one colour on another.

A flat blue box is no object to a net that has learnt to ignore panels and doors. Such patches are proposed with a
modest score, and only where the net proposes nothing.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.morphology import convex_hull_image
from skimage.segmentation import felzenszwalb

_SMALLEST_SHARE, _LARGEST_SHARE = 0.008, 0.2  # of the picture
_CHROMA_SPREAD = 8.0  # standard deviation of a* and b* inside the patch at most; lightness may vary, as shading does
_EDGE = 8.0  # CIELAB units per pixel: an outline pixel with less is no edge
_CLOSED = 0.9  # share of the outline that must be an edge
_CONVEX = 0.9  # share of its convex hull that the patch must fill
_SCORE = 0.35  # for a perfect one: above the fragments of the net's objects, below its clear ones


def plain_shapes(picture: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """(mask (h, w) bool, score) for every plain patch of `picture` (h, w, 3) uint8 that touches no border."""
    labels = felzenszwalb(picture, scale=400, sigma=0.8, min_size=100)
    lab = rgb2lab(picture)
    smooth = [ndimage.gaussian_filter(lab[..., channel], 0.7) for channel in range(3)]
    gradient = np.sqrt(sum(ndimage.sobel(c, 0) ** 2 + ndimage.sobel(c, 1) ** 2 for c in smooth)) / 8
    edge = ndimage.maximum_filter(gradient, 3) > _EDGE
    height, width = labels.shape
    found = []
    for number, place in enumerate(ndimage.find_objects(labels + 1)):
        rows, columns = place
        if rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width:
            continue
        part = labels[place] == number
        if not _SMALLEST_SHARE < part.sum() / labels.size < _LARGEST_SHARE:
            continue
        part = ndimage.binary_fill_holes(part)
        outline = part & ~ndimage.binary_erosion(part)
        closed = float(edge[place][outline].mean())
        spread = float(lab[place][part][:, 1:].std(0).max())
        if closed < _CLOSED or spread > _CHROMA_SPREAD:
            continue
        convex = float(part.sum() / convex_hull_image(part).sum())
        if convex < _CONVEX:
            continue
        mask = np.zeros(labels.shape, bool)
        mask[place] = part
        found.append((mask, _SCORE * closed * convex))
    return sorted(found, key=lambda shape: -shape[1])
