"""Shape from the silhouette alone: the mask inflated like a balloon. Needs no weights."""

from __future__ import annotations

import numpy as np

from sam3d_gs.embedded.shape.crops import Crop
from sam3d_gs.embedded.shape.object_net import MIN_THICKNESS, DepthLayers

BACK_BLUR_PX = 6.0  # at 160 px: the unseen side gets the front's colours, blurred


def inflate(crop: Crop) -> DepthLayers:
    """Front and back of the inflated silhouette, in the units of the network's prediction."""
    from scipy.ndimage import gaussian_filter

    inside = crop.coverage > 0.5
    if not inside.any():  # a mask thinner than half a crop pixel
        inside = crop.coverage >= crop.coverage.max()
    height = dome_height(inside)
    weight = gaussian_filter(inside.astype(np.float32), BACK_BLUR_PX)[..., None]
    blurred = gaussian_filter(crop.rgb * inside[..., None], (BACK_BLUR_PX, BACK_BLUR_PX, 0)) / np.maximum(weight, 1e-3)
    return DepthLayers(
        front=height,
        thickness=np.maximum(2 * height, MIN_THICKNESS).astype(np.float32),
        back_rgb=np.clip(blurred, 0, 1).astype(np.float32),
        visible=inside.astype(np.float32),
    )


def dome_height(inside: np.ndarray) -> np.ndarray:
    """Height of the inflated mask, (R, R) float32, in half-sides of the square; 0 outside.

    Solves the Poisson equation ``laplace(u) = -4`` with u = 0 outside and returns sqrt(u): on a disc of radius r
    that is the hemisphere sqrt(r^2 - x^2 - y^2), on a strip of half-width w an ellipse of height sqrt(2) w.
    inside: (R, R) bool.
    """
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import spsolve

    rows, columns = np.nonzero(inside)
    count = len(rows)
    number = np.full((inside.shape[0] + 2, inside.shape[1] + 2), -1)
    number[rows + 1, columns + 1] = np.arange(count)
    pairs = []
    for row_step, column_step in ((0, 1), (1, 0)):
        neighbour = number[rows + 1 + row_step, columns + 1 + column_step]
        here = np.flatnonzero(neighbour >= 0)
        pairs.append(np.stack([here, neighbour[here]]))
    first, second = np.concatenate(pairs, axis=1)
    links = coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count))
    matrix = (diags(np.full(count, 4.0)) - links - links.T).tocsc()
    pixel = 2.0 / inside.shape[0]
    squared = np.atleast_1d(spsolve(matrix, np.full(count, 4.0 * pixel**2)))
    height = np.zeros(inside.shape, np.float32)
    height[rows, columns] = np.sqrt(np.maximum(squared, 0))
    return height
