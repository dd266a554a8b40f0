"""Colours and opacity of an object's samples: the visible side from the photo, the other from the prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from sam3d_gs.embedded.shape.crops import Crop, cut_square, resample_square
from sam3d_gs.embedded.shape.object_net import DepthLayers
from sam3d_gs.embedded.shape.poisson_blend import blend_along_outline
from sam3d_gs.embedded.shape.ray_shell import blurred_inside, resized, smoothstep

EDGE_BLUR_PX = 0.6  # of the photo: smooths the pixel steps of the mask
BILATERAL_REACH = 12  # at 160 px: radius of the bilateral filter against traces of the front's prints on the back
BILATERAL_CONTRAST = 0.2  # colour distance above which an edge separates parts and is kept
MAX_GRAIN = 0.012  # of the standard deviation; stronger detail is a drawing's lines, not a texture
DETAIL_PX = 3.0  # at 160 px: the prediction of the back holds no finer detail
DETAIL_REACH_PX = 2.5  # at 160 px: window in which the strength of the detail is measured
SAME_MATERIAL = 0.12  # standard deviation of the RGB distance within one material
OUTLIER_RATIO = (
    2.5,
    4.0,
)  # strength over the median: detail fades out between these, as it is a print or an edge
MAX_DETAIL = 0.05  # of the median strength; stronger detail is a picture, not a texture
SIDE_BLUR_PX = 5.0  # at 160 px: averaging of the colours along an edge for the side behind it


def soft_alpha(mask: np.ndarray, crop: Crop, side: int) -> np.ndarray:
    """(side, side) float32 0..1: coverage of each sample by the object, without the pixel steps of the mask."""
    from scipy.ndimage import gaussian_filter

    square, box = cut_square(mask.astype(np.float32), crop.center_px, crop.half_px)
    return _resample(gaussian_filter(square, EDGE_BLUR_PX), box, side)


def front_colours(rgb: np.ndarray, mask: np.ndarray, crop: Crop, side: int) -> np.ndarray:
    """(side, side, 3) float32 0..1 from the photo's pixels.

    The outermost pixels of an object are mixed with the background, so they get colours from further inside.
    """
    from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

    core = binary_erosion(mask, iterations=1, border_value=1)
    core |= mask & ~binary_dilation(core, iterations=2)  # thin parts have no interior: keep them as they are
    square = crop.center_px, crop.half_px, side, Image.Resampling.BILINEAR
    share = resample_square(core.astype(np.float32), *square)
    planes = [resample_square(rgb[..., c] * (core / np.float32(255)), *square) for c in range(3)]
    colour = np.stack(planes, axis=-1) / np.maximum(share, 1e-3)[..., None]
    known = share > 0.3 if (share > 0.3).any() else share >= share.max()
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.clip(colour[tuple(nearest)], 0, 1)


@dataclass(frozen=True)
class FineDetail:
    """The texture of the front that is finer than the network's pixels, on the grid of the front's colours."""

    smooth: np.ndarray  # (S, S, 3) the front without detail
    fine: np.ndarray  # (S, S, 3) the detail, limited to the strength of a texture
    repeatable: np.ndarray  # (S, S, 1) 0..1: 0 where the detail is exceptional, such as a label

    @classmethod
    def of(cls, front_rgb: np.ndarray, inside: np.ndarray, zoom: float) -> FineDetail:
        """The detail of (S, S, 3) colours within `inside` (S, S). zoom: samples per pixel of the network."""
        from scipy.ndimage import binary_erosion, maximum_filter

        smooth = blurred_inside(front_rgb, inside, (DETAIL_PX * zoom,) * 2)
        detail = (front_rgb - smooth) * inside[..., None]
        square = np.square(detail).mean(axis=-1, keepdims=True)
        strength = np.sqrt(np.maximum(blurred_inside(square, inside, (DETAIL_REACH_PX * zoom,) * 2), 0))
        core = binary_erosion(inside, iterations=2)
        median = max(float(np.median(strength[core if core.any() else inside])), 1e-6)
        # Widened by the halo of a print.
        around = maximum_filter(strength, size=(*(2 * round(DETAIL_PX * zoom) + 1,) * 2, 1))
        return cls(smooth, min(1.0, MAX_DETAIL / median) * detail, 1 - smoothstep(around / median, *OUTLIER_RATIO))

    def weight_on(self, rgb: np.ndarray) -> np.ndarray:
        """(S, S, 1) 0..1: weight of the detail on a side of colours `rgb` (S, S, 3): 1 for the same material."""
        similarity = np.exp(-0.5 * np.square(rgb - self.smooth).sum(axis=-1, keepdims=True) / SAME_MATERIAL**2)
        return np.asarray(similarity * self.repeatable, np.float32)


def back_colours(
    layers: DepthLayers, crop: Crop, front_rgb: np.ndarray, inside: np.ndarray, detail: FineDetail, seed: int
) -> np.ndarray:
    """(side, side, 3) float32 0..1 for the unseen side, on the grid of `front_rgb`, whose detail is `detail`.

    The prediction is blurred and shows traces of prints on the front. A bilateral filter removes them and keeps strong
    edges. Along the outline the colours blend into the front's. Where the back has the front's colour, the front's
    detail is repeated (knitting, wood); elsewhere noise of the same strength replaces the missing texture.
    """
    known = crop.coverage > 0.5
    if not known.any():
        known = crop.coverage >= crop.coverage.max()
    smooth = layers.back_rgb
    for _ in range(3):
        smooth = _bilateral(smooth, known)
    colour = blend_along_outline(resized(smooth, len(front_rgb)), front_rgb, inside)
    weight = detail.weight_on(colour)
    return np.clip(colour + weight * detail.fine + (1 - weight) * _grain(front_rgb, inside, seed), 0, 1)


def side_colours(
    front_rgb: np.ndarray, inside: np.ndarray, detail: FineDetail, zoom: float
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth colours of the front for the sides of an object, and fine detail to add; (S, S, 3) each.

    zoom: samples per pixel of the network. Smooth, since a single edge pixel extended over a side would be a streak.
    """
    smooth = blurred_inside(front_rgb, inside, (SIDE_BLUR_PX * zoom,) * 2)
    return smooth, detail.weight_on(smooth) * detail.fine


def _grain(front_rgb: np.ndarray, inside: np.ndarray, seed: int) -> np.ndarray:
    """(side, side, 1) noise with the median strength of the front's finest detail, which ignores prints."""
    from scipy.ndimage import gaussian_filter

    grey = front_rgb.mean(axis=-1)
    detail = np.abs(grey - gaussian_filter(grey, 1.5))
    strength = min(1.48 * float(np.median(detail[inside])), MAX_GRAIN)
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(grey.shape), 0.8)
    return (noise * (strength / max(float(noise.std()), 1e-6)))[..., None].astype(np.float32)


def _bilateral(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Bilateral filter over a sparse window; (R, R, 3), with unknown pixels filled first."""
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    rgb = rgb[tuple(nearest)]
    total, weights = np.zeros_like(rgb), np.zeros(rgb.shape[:2], np.float32)
    padded = np.pad(rgb, ((BILATERAL_REACH, BILATERAL_REACH), (BILATERAL_REACH, BILATERAL_REACH), (0, 0)), mode="edge")
    size = rgb.shape[0]
    for row in range(-BILATERAL_REACH, BILATERAL_REACH + 1, 4):
        for column in range(-BILATERAL_REACH, BILATERAL_REACH + 1, 4):
            moved = padded[BILATERAL_REACH + row :, BILATERAL_REACH + column :][:size, :size]
            distance = np.square(moved - rgb).sum(axis=-1) / BILATERAL_CONTRAST**2
            near = np.exp(-(row**2 + column**2) / (2 * (BILATERAL_REACH / 2) ** 2))
            weight = (near * np.exp(-0.5 * distance)).astype(np.float32)
            total += weight[..., None] * moved
            weights += weight
    return total / weights[..., None]


def _resample(plane: np.ndarray, box: tuple[float, float, float, float], side: int) -> np.ndarray:
    """A box of `plane`, resampled with anti-aliasing to (side, side)."""
    picture = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=box), np.float32)
