"""Colours and opacity of one object's samples: the seen side from the photo, the unseen side from the prediction."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sam3d_gs.embedded.object_net import Crop, TwoLayers, cut_square, resample_square

EDGE_BLUR_PX = 0.6  # of the photo: masks have stairs, objects do not
GHOST_REACH = 12  # of the 160: how far a print of the front is smoothed away on the back
GHOST_CONTRAST = 0.2  # steps stronger than this stay: they separate parts, not prints
MAX_GRAIN = 0.012  # more is a drawing's lines, not a texture


def soft_alpha(mask: np.ndarray, crop: Crop, side: int) -> np.ndarray:
    """(side, side) float32 0..1: how much of each sample the object covers, without the mask's pixel stairs."""
    from scipy.ndimage import gaussian_filter

    square, box = cut_square(mask.astype(np.float32), crop.center_px, crop.half_px)
    return _resample(gaussian_filter(square, EDGE_BLUR_PX), box, side)


def front_colours(rgb: np.ndarray, mask: np.ndarray, crop: Crop, side: int) -> np.ndarray:
    """(side, side, 3) float32 0..1 from the photo's pixels.

    The outermost pixel of an object is mixed with the background, so its colour comes from further inside.
    """
    from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

    core = binary_erosion(mask, iterations=1, border_value=1)
    core |= mask & ~binary_dilation(core, iterations=2)  # thin parts have no inside: keep them as they are
    square = crop.center_px, crop.half_px, side, Image.Resampling.BILINEAR
    share = resample_square(core.astype(np.float32), *square)
    planes = [resample_square(rgb[..., c] * (core / np.float32(255)), *square) for c in range(3)]
    colour = np.stack(planes, axis=-1) / np.maximum(share, 1e-3)[..., None]
    known = share > 0.3 if (share > 0.3).any() else share >= share.max()
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.clip(colour[tuple(nearest)], 0, 1)


def back_colours(layers: TwoLayers, crop: Crop, front_rgb: np.ndarray, inside: np.ndarray, seed: int) -> np.ndarray:
    """(side, side, 3) float32 0..1 for the unseen side, on the grid of `front_rgb`.

    The prediction is blurred and carries a ghost of prints on the front. Both go when faint differences are smoothed
    and strong ones kept; grain as fine and as strong as the front's makes up for the lost texture.
    """
    known = crop.coverage > 0.5
    if not known.any():
        known = crop.coverage >= crop.coverage.max()
    smooth = layers.back_rgb
    for _ in range(3):
        smooth = _bilateral(smooth, known)
    side = front_rgb.shape[0]
    size = smooth.shape[0]
    box = (0.0, 0.0, float(size), float(size))
    colour = np.stack([_resample(smooth[..., c], box, side) for c in range(3)], axis=-1)
    return np.clip(colour + _grain(front_rgb, inside, seed), 0, 1)


def _grain(front_rgb: np.ndarray, inside: np.ndarray, seed: int) -> np.ndarray:
    """(side, side, 1) noise with the strength of the front's finest detail; the median keeps prints out of it."""
    from scipy.ndimage import gaussian_filter

    grey = front_rgb.mean(axis=-1)
    detail = np.abs(grey - gaussian_filter(grey, 1.5))
    strength = min(1.48 * float(np.median(detail[inside])), MAX_GRAIN)
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(grey.shape), 0.8)
    return (noise * (strength / max(float(noise.std()), 1e-6)))[..., None].astype(np.float32)


def _bilateral(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Average over a sparse window, weighted by likeness in colour; (R, R, 3) with unknown pixels filled."""
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    rgb = rgb[tuple(nearest)]
    total, weights = np.zeros_like(rgb), np.zeros(rgb.shape[:2], np.float32)
    padded = np.pad(rgb, ((GHOST_REACH, GHOST_REACH), (GHOST_REACH, GHOST_REACH), (0, 0)), mode="edge")
    size = rgb.shape[0]
    for row in range(-GHOST_REACH, GHOST_REACH + 1, 4):
        for column in range(-GHOST_REACH, GHOST_REACH + 1, 4):
            moved = padded[GHOST_REACH + row :, GHOST_REACH + column :][:size, :size]
            unlike = np.square(moved - rgb).sum(axis=-1) / GHOST_CONTRAST**2
            near = np.exp(-(row**2 + column**2) / (2 * (GHOST_REACH / 2) ** 2))
            weight = (near * np.exp(-0.5 * unlike)).astype(np.float32)
            total += weight[..., None] * moved
            weights += weight
    return total / weights[..., None]


def _resample(plane: np.ndarray, box: tuple[float, float, float, float], side: int) -> np.ndarray:
    """Anti-aliased (side, side) picture of a box of `plane`."""
    picture = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=box), np.float32)
