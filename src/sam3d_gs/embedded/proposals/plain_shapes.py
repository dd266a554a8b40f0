"""Propose plain, closed patches of one colour, which the mask network tends to miss.

The network has learned to ignore panels and doors, and so misses a flat blue box. These patches get a modest score
and are used only where the network proposes nothing.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.morphology import convex_hull_image
from skimage.segmentation import felzenszwalb

_SMALLEST_SHARE, _LARGEST_SHARE = 0.008, 0.2  # of the picture
_CHROMA_SPREAD = 8.0  # maximum standard deviation of a* and b* inside the patch; lightness may vary with the shading
_EDGE = 8.0  # CIELAB units per pixel from which an outline pixel counts as an edge
_CLOSED = 0.9  # minimum share of the outline that is an edge
_CONVEX = 0.9  # minimum share of the convex hull that the patch fills
_SCORE = 0.35  # of a perfect patch: above the network's fragments of objects, below its clear objects


def plain_shapes(picture: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """(mask (h, w) bool, score) of every plain patch of `picture` (h, w, 3) uint8 away from the border, best first."""
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
