"""Find round plates that carry something. Their outline is an ellipse, whose axes give the viewing angle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam3d_gs.embedded.shape.crops import Crop, bounding_slices
from sam3d_gs.embedded.shape.object_net import DepthLayers

MIN_IOU = 0.90  # of the ellipse with the filled mask
MIN_VISIBLE = 0.4  # share of the ellipse that shows the plate itself
ASPECT_RANGE = (0.15, 0.88)  # height over width of the ellipse; flatter is a slit, rounder may be a ball
MAX_HEIGHT = 0.25  # maximum height of a plate over half its width
_RIM = 1.01  # scale of the fitted ellipse, so that an imperfect rim is not cut
_CLEARANCE = 0.03  # share of the plate's width: outline nearer to another object is ignored
_INLIER_SHARE = 0.8  # share of the outline kept in each round of the fit, to exclude shadows and spouts
_ROUNDS = 4
_MIN_POINTS = 24  # outline pixels


@dataclass(frozen=True)
class Plate:
    """The outline of a plate in the photo."""

    inside: np.ndarray  # (H, W) bool, hidden parts included
    half_width_px: float
    half_height_px: float

    @property
    def elevation_deg(self) -> float:
        """Elevation of the viewer: the axes of a distant level circle have the ratio sin(elevation)."""
        return math.degrees(math.asin(min(self.half_height_px / self.half_width_px, 1.0)))


def find_plates(masks: Sequence[np.ndarray]) -> list[Plate | None]:
    """For each mask, (H, W) bool: its ellipse when it is a plate that carries other masks, else None.

    An ellipse that carries nothing may be an egg. The photo's edge may cut the plate.
    """
    areas = [int(np.count_nonzero(mask)) for mask in masks]
    carried = [[masks[j] for j in _masks_on_top(i, masks, areas)] for i in range(len(masks))]
    return [
        _fit_plate(mask, np.any(above, axis=0)) if above else None for mask, above in zip(masks, carried, strict=True)
    ]


def flatten_plate(layers: DepthLayers, plate: Plate, crop: Crop) -> DepthLayers:
    """The layers with the thickness limited to that of a plate: a ray crosses a level disc in a short distance."""
    longest = MAX_HEIGHT * plate.half_width_px / crop.half_px / math.sin(math.radians(plate.elevation_deg))
    return replace(layers, thickness=np.minimum(layers.thickness, np.float32(longest)))


def _fit_plate(mask: np.ndarray, carried: np.ndarray) -> Plate | None:
    """The plate with the visible part `mask`, under the objects `carried`; both (H, W) bool, not empty."""
    points = _visible_outline(mask, carried)
    fitted = _fit_ellipse(points) if len(points) >= _MIN_POINTS else None
    if fitted is None:
        return None
    (u, v), half_width, half_height = fitted
    if not ASPECT_RANGE[0] < half_height / half_width < ASPECT_RANGE[1]:
        return None
    y = ((np.arange(mask.shape[0]) + 0.5 - v) / half_height)[:, None]
    x = ((np.arange(mask.shape[1]) + 0.5 - u) / half_width)[None]
    inside = np.asarray(x**2 + y**2 <= _RIM**2)
    filled = mask | (inside & carried)
    fits = np.count_nonzero(filled & inside) >= MIN_IOU * np.count_nonzero(filled | inside)
    visible = np.count_nonzero(mask) >= MIN_VISIBLE * np.count_nonzero(inside)
    return Plate(inside, half_width, half_height) if fits and visible else None


def _masks_on_top(index: int, masks: Sequence[np.ndarray], areas: Sequence[int]) -> list[int]:
    """The masks of less than twice its area that lie mostly inside the box of mask `index`."""
    if not areas[index]:
        return []
    box = bounding_slices(masks[index])
    small = [j for j, area in enumerate(areas) if j != index and 0 < area < 2 * areas[index]]
    return [j for j in small if np.count_nonzero(masks[j][box]) > 0.6 * areas[j]]


def _visible_outline(mask: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """(N, 2) px, x and y of the mask's outer outline where neither the photo's edge nor another object cuts it."""
    from scipy.ndimage import binary_erosion, binary_fill_holes
    from scipy.spatial import cKDTree

    width = np.ptp(np.flatnonzero(mask.any(0))) + 1
    rows, columns = bounding_slices(mask | carried)
    # One pixel of margin, so that the erosion meets the border of the box only at the photo's edge.
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    near = slice(top, rows.stop + 1), slice(left, columns.stop + 1)
    mask, carried = mask[near], carried[near]
    whole = binary_fill_holes(mask | carried)
    rim = np.argwhere(mask & whole & ~carried & ~binary_erosion(whole, border_value=1))
    others = cKDTree(np.argwhere(carried & ~binary_erosion(carried)))
    apart = others.query(rim)[0] > _CLEARANCE * width
    return np.asarray(rim[apart][:, ::-1] + (left, top) + 0.5)


def _fit_ellipse(points: np.ndarray) -> tuple[tuple[float, float], float, float] | None:
    """Centre, half width and half height (px) of the upright ellipse through most of the points (N, 2).

    Least squares of ``a x^2 + b y^2 + c x + d y = 1``, repeatedly without the points that fit worst.
    """
    middle, spread = points.mean(0), max(float(points.std()), 1e-6)
    scaled, kept = (points - middle) / spread, np.ones(len(points), bool)
    for _ in range(_ROUNDS):
        x, y = scaled[kept].T
        a, b, c, d = np.linalg.lstsq(np.stack([x * x, y * y, x, y], axis=1), np.ones(len(x)), rcond=None)[0]
        if not (a > 0 and b > 0):
            return None
        centre = np.array([-c / (2 * a), -d / (2 * b)])
        size = 1 + a * centre[0] ** 2 + b * centre[1] ** 2
        half = np.sqrt(size / np.array([a, b]))
        away = np.abs(np.linalg.norm((scaled - centre) / half, axis=1) - 1)
        kept = away <= np.quantile(away, _INLIER_SHARE)
    u, v = middle + spread * centre
    # The points are the centres of the outermost pixels.
    return (float(u), float(v)), float(spread * half[0]) + 0.5, float(spread * half[1]) + 0.5
