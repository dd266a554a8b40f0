"""Small repairs of masks before they are lifted: specks go, and a plate continues below what stands on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from sam3d_gs.embedded.placement.place_objects import Silhouette
from sam3d_gs.embedded.placement.plates import Plate
from sam3d_gs.embedded.shape.crops import Crop
from sam3d_gs.embedded.shape.object_net import MIN_THICKNESS, TwoLayers

SPECK_SHARE = 0.005  # parts smaller than this share of the mask are noise; they would inflate the object's box
SPREAD_PX = 256  # longer side at which invented colours are made
SINK = 1.02  # depth of an invented surface over that of what hides it


def without_specks(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool without parts that are tiny beside the whole."""
    from scipy.ndimage import label

    labels, _ = label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = (sizes >= SPECK_SHARE * sizes.sum()) & (sizes > 0)
    return np.asarray(kept[labels])


def complete_plate(
    rgb: np.ndarray, index: int, masks: Sequence[np.ndarray], plate: Plate
) -> tuple[np.ndarray, np.ndarray]:
    """Photo and mask of object `index`, a round plate, continued below other objects.

    A cup hides the middle of its saucer; the outline, an ellipse, says that the saucer goes on below, and that the
    shadow beside it is not the saucer's. Its colours there are spread from the visible part.
    """
    own = masks[index] & plate.inside
    hidden = plate.inside & np.any([m for j, m in enumerate(masks) if j != index], axis=0) & ~own
    return spread_colours(rgb, own, hidden), own | hidden


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


def spread_colours(rgb: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`rgb` with the `wanted` pixels painted from the `known` ones, with ever wider averages.

    rgb: (H, W, 3) uint8. known, wanted: (H, W) bool. What is painted is smooth, so it is made at `SPREAD_PX`.
    """
    from scipy.ndimage import binary_erosion, gaussian_filter

    rows, columns = np.flatnonzero((known | wanted).any(1)), np.flatnonzero((known | wanted).any(0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    source = binary_erosion(known[box], iterations=2)
    if not source.any():
        source = known[box]
    height, width = source.shape
    zoom = min(1.0, SPREAD_PX / max(height, width))
    small = max(round(height * zoom), 1), max(round(width * zoom), 1)
    share = _resized(source.astype(np.float32), small, Image.Resampling.BOX)
    planes = [_resized(rgb[box][..., c] * source.astype(np.float32), small, Image.Resampling.BOX) for c in range(3)]
    colour = np.stack(planes, axis=-1)
    result, missing = colour / np.maximum(share, 1e-6)[..., None], share < 0.5
    sigma = 2.0
    while missing.any() and sigma < 2 * max(small):
        weight = gaussian_filter(share, sigma)
        near = missing & (weight > 0.08)
        result[near] = (gaussian_filter(colour, (sigma, sigma, 0)) / np.maximum(weight, 1e-6)[..., None])[near]
        missing &= ~near
        sigma *= 1.5
    spread = np.stack([_resized(result[..., c], source.shape, Image.Resampling.BILINEAR) for c in range(3)], axis=-1)
    painted = rgb.copy()
    painted[box] = np.where(wanted[box][..., None], np.clip(np.rint(spread), 0, 255), rgb[box]).astype(np.uint8)
    return painted


def _resized(plane: np.ndarray, shape: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(shape[::-1], how), np.float32)
