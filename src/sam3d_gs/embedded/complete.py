"""Small repairs of masks before they are lifted: specks go, and a plate continues below what stands on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sam3d_gs.embedded.object_net import MIN_THICKNESS, Crop, TwoLayers
from sam3d_gs.embedded.placement import Silhouette
from sam3d_gs.embedded.plates import find_plate

SPECK_SHARE = 0.005  # parts smaller than this share of the mask are noise; they would inflate the object's box
SINK = 1.02  # depth of an invented surface over that of what hides it


def without_specks(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool without parts that are tiny beside the whole."""
    from scipy.ndimage import label

    labels, _ = label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = (sizes >= SPECK_SHARE * sizes.sum()) & (sizes > 0)
    return np.asarray(kept[labels])


def complete_plate(rgb: np.ndarray, index: int, masks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Photo and mask of object `index`, continued below other objects when it is a round plate.

    A cup hides the middle of its saucer; the outline, an ellipse, says that the saucer goes on below, and that the
    shadow beside it is not the saucer's. Its colours there are spread from the visible part. Any other object comes
    back unchanged.
    """
    plate = find_plate(index, masks)
    if plate is None:
        return rgb, masks[index]
    own = masks[index] & plate.inside
    hidden = plate.inside & np.any([m for j, m in enumerate(masks) if j != index], axis=0) & ~own
    return _spread(rgb, own, hidden), own | hidden


def keep_hidden(
    crop: Crop, layers: TwoLayers, focal_px: float, depth: float, others: Sequence[tuple[Silhouette, float]]
) -> TwoLayers:
    """Sink the invented part of a plate behind the objects that hide it, each given with its depth.

    Otherwise the middle of a saucer may show through the floor of a deep cup.
    """
    from scipy.ndimage import maximum_filter

    size = layers.front.shape[0]
    offset = ((np.arange(size) + 0.5) / size * 2 - 1) * crop.half_px
    v, u = np.meshgrid(crop.center_px[1] + offset, crop.center_px[0] + offset, indexing="ij")
    least = np.zeros(layers.front.shape)
    for other, other_depth in others:
        height, width = other.mask.shape
        at = np.stack([v.ravel() * other.zoom, u.ravel() * other.zoom], axis=1).astype(int).clip(0)
        at = np.minimum(at, [height - 1, width - 1])
        covered = other.mask[at[:, 0], at[:, 1]]
        values = np.where(covered, other.depth_at(at) * other_depth * SINK, 0)
        least = np.maximum(least, values.reshape(least.shape))
    around = maximum_filter(least, size=5)  # the two grids do not agree on where the other object jumps
    least = np.where(least > 0, around, 0)
    highest = (1 - least / depth) * (focal_px / crop.half_px)
    front = np.minimum(layers.front, highest).astype(np.float32)
    thickness = np.maximum(layers.thickness - (layers.front - front), MIN_THICKNESS)
    return replace(layers, front=front, thickness=thickness)


def _spread(rgb: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`rgb` with the `wanted` pixels painted from the `known` ones, with ever wider averages."""
    from scipy.ndimage import binary_erosion, gaussian_filter

    rows, columns = np.flatnonzero((known | wanted).any(1)), np.flatnonzero((known | wanted).any(0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    source = binary_erosion(known[box], iterations=2)
    if not source.any():
        source = known[box]
    colour, missing = rgb[box].astype(np.float32), wanted[box].copy()
    result = colour.copy()
    sigma = 2.0
    while missing.any() and sigma < 2 * max(missing.shape):
        weight = gaussian_filter(source.astype(np.float32), sigma)
        near = missing & (weight > 0.08)
        mean = gaussian_filter(colour * source[..., None], (sigma, sigma, 0)) / np.maximum(weight, 1e-6)[..., None]
        result[near] = mean[near]
        missing &= ~near
        sigma *= 1.5
    painted = rgb.copy()
    painted[box] = np.where(wanted[box][..., None], np.clip(np.rint(result), 0, 255), rgb[box]).astype(np.uint8)
    return painted
