"""Colours and opacity of one object's samples: the seen side from the photo, the unseen side from the prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from sam3d_gs.embedded.shape.crops import Crop, cut_square, resample_square
from sam3d_gs.embedded.shape.object_net import TwoLayers
from sam3d_gs.embedded.shape.poisson_blend import met_at_outline
from sam3d_gs.embedded.shape.ray_shell import blurred_inside, resized, smoothstep

EDGE_BLUR_PX = 0.6  # of the photo: masks have stairs, objects do not
GHOST_REACH = 12  # of the 160: how far a print of the front is smoothed away on the back
GHOST_CONTRAST = 0.2  # steps stronger than this stay: they separate parts, not prints
MAX_GRAIN = 0.012  # more is a drawing's lines, not a texture
DETAIL_PX = 3.0  # of the 160: what is finer the prediction of the back cannot say
DETAIL_REACH_PX = 2.5  # of the 160: neighbourhood in which the strength of the detail is taken
SAME_MATERIAL = 0.12  # distance in RGB at which a colour of the back is hardly the front's any more
ONE_OFF = (2.5, 4.0)  # detail this many times stronger than the usual is a print or an edge: it fades between these
MAX_DETAIL = 0.05  # usual strength; more is a picture, not a texture
SIDE_BLUR_PX = 5.0  # of the 160: how far the colours of an edge are averaged for the side behind it


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


@dataclass(frozen=True)
class FineDetail:
    """What of an object's front is finer than the network's pixels, on the grid of the front's colours."""

    smooth: np.ndarray  # (S, S, 3) the front without it
    fine: np.ndarray  # (S, S, 3) the rest of the front, no stronger than a texture
    common: np.ndarray  # (S, S, 1) 0..1: 0 where it stands out, for a label is not on all sides

    @classmethod
    def of(cls, front_rgb: np.ndarray, inside: np.ndarray, zoom: float) -> FineDetail:
        """The detail of (S, S, 3) colours within `inside` (S, S). zoom: samples per pixel of the network."""
        from scipy.ndimage import binary_erosion, maximum_filter

        smooth = blurred_inside(front_rgb, inside, (DETAIL_PX * zoom,) * 2)
        detail = (front_rgb - smooth) * inside[..., None]
        square = np.square(detail).mean(axis=-1, keepdims=True)
        strength = np.sqrt(np.maximum(blurred_inside(square, inside, (DETAIL_REACH_PX * zoom,) * 2), 0))
        core = binary_erosion(inside, iterations=2)
        usual = max(float(np.median(strength[core if core.any() else inside])), 1e-6)
        around = maximum_filter(
            strength, size=(*(2 * round(DETAIL_PX * zoom) + 1,) * 2, 1)
        )  # as far as a print's halo goes
        return cls(smooth, min(1.0, MAX_DETAIL / usual) * detail, 1 - smoothstep(around / usual, *ONE_OFF))

    def kept_on(self, rgb: np.ndarray) -> np.ndarray:
        """(S, S, 1) 0..1: how much of it another side of the colours (S, S, 3) may repeat."""
        alike = np.exp(-0.5 * np.square(rgb - self.smooth).sum(axis=-1, keepdims=True) / SAME_MATERIAL**2)
        return np.asarray(alike * self.common, np.float32)


def back_colours(
    layers: TwoLayers, crop: Crop, front_rgb: np.ndarray, inside: np.ndarray, detail: FineDetail, seed: int
) -> np.ndarray:
    """(side, side, 3) float32 0..1 for the unseen side, on the grid of `front_rgb`, whose detail is `detail`.

    The prediction is blurred and carries a ghost of prints on the front. Both go when faint differences are smoothed
    and strong ones kept. Along the outline it takes the front's colours. Where its colour is that of the front at the
    same place, the front's fine detail is repeated, as knitting and wood repeat; elsewhere grain as fine and as strong
    as the front's makes up for the lost texture.
    """
    known = crop.coverage > 0.5
    if not known.any():
        known = crop.coverage >= crop.coverage.max()
    smooth = layers.back_rgb
    for _ in range(3):
        smooth = _bilateral(smooth, known)
    colour = met_at_outline(resized(smooth, len(front_rgb)), front_rgb, inside)
    kept = detail.kept_on(colour)
    return np.clip(colour + kept * detail.fine + (1 - kept) * _grain(front_rgb, inside, seed), 0, 1)


def side_colours(
    front_rgb: np.ndarray, inside: np.ndarray, detail: FineDetail, zoom: float
) -> tuple[np.ndarray, np.ndarray]:
    """What the sides of an object take from its front: smooth colours, and fine detail to add; (S, S, 3) each.

    zoom: samples per pixel of the network. A single edge pixel drawn out over a side would be a streak.
    """
    smooth = blurred_inside(front_rgb, inside, (SIDE_BLUR_PX * zoom,) * 2)
    return smooth, detail.kept_on(smooth) * detail.fine


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
