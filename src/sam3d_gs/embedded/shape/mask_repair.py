"""Repairs of masks before objects are lifted: remove specks, and complete plates under the objects on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from sam3d_gs.embedded.placement.plates import Plate

SPECK_SHARE = 0.005  # smaller parts of a mask are noise, which would enlarge the object's box
INPAINT_SIDE_PX = 256  # longer side at which colours are inpainted


def remove_specks(mask: np.ndarray) -> np.ndarray:
    """The mask, (H, W) bool, without connected parts below `SPECK_SHARE` of its area."""
    from scipy.ndimage import label

    labels, _ = label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = (sizes >= SPECK_SHARE * sizes.sum()) & (sizes > 0)
    return np.asarray(kept[labels])


def complete_plate(
    rgb: np.ndarray, index: int, masks: Sequence[np.ndarray], plate: Plate
) -> tuple[np.ndarray, np.ndarray]:
    """Photo and mask of object `index`, a round plate, completed to its ellipse under other objects.

    Hidden parts get colours from the visible ones. What lies outside the ellipse, such as the plate's shadow, is
    removed from the mask.
    """
    own = masks[index] & plate.inside
    hidden = plate.inside & np.any([m for j, m in enumerate(masks) if j != index], axis=0) & ~own
    return inpaint_colours(rgb, own, hidden), own | hidden


def inpaint_colours(rgb: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`rgb` with the `wanted` pixels filled from the `known` ones, by averages over growing windows.

    rgb: (H, W, 3) uint8. known, wanted: (H, W) bool. The fill is smooth, so it is computed at `INPAINT_SIDE_PX`.
    """
    from scipy.ndimage import binary_erosion, gaussian_filter

    rows, columns = np.flatnonzero((known | wanted).any(1)), np.flatnonzero((known | wanted).any(0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    source = binary_erosion(known[box], iterations=2)
    if not source.any():
        source = known[box]
    height, width = source.shape
    zoom = min(1.0, INPAINT_SIDE_PX / max(height, width))
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
    filled = np.stack([_resized(result[..., c], source.shape, Image.Resampling.BILINEAR) for c in range(3)], axis=-1)
    result_rgb = rgb.copy()
    result_rgb[box] = np.where(wanted[box][..., None], np.clip(np.rint(filled), 0, 255), rgb[box]).astype(np.uint8)
    return result_rgb


def _resized(plane: np.ndarray, shape: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(shape[::-1], how), np.float32)
