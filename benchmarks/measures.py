"""Errors of a reconstruction: shape, placement, up direction. See benchmarks/README.md for the protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam3d_gs.gaussians.pose import quat_to_matrix, transform
from sam3d_gs.types import Gaussians, PlacedObject

_COARSE_POINTS = 2000  # enough to find the best distance; the result is measured with all points


def surface_samples(gaussians: Gaussians, count: int, seed: int = 0) -> np.ndarray:
    """(count, 3) float64 centres of Gaussians, sampled by opacity times area, to represent the surface.

    The area of a Gaussian is the product of its two largest scales.
    """
    scales = np.sort(gaussians.scales.astype(np.float64), axis=1)
    weight = gaussians.opacities * scales[:, 1] * scales[:, 2]
    chosen = np.random.default_rng(seed).choice(len(gaussians), count, p=weight / weight.sum())
    return gaussians.means[chosen].astype(np.float64)


def chamfer(first: np.ndarray, second: np.ndarray) -> float:
    """Mean distance to the nearest point of the other set, averaged over both directions; (N, 3) and (M, 3)."""
    from scipy.spatial import cKDTree

    forth = cKDTree(second).query(first)[0].mean()
    back = cKDTree(first).query(second)[0].mean()
    return float(forth + back) / 2


def chamfer_percent(made: np.ndarray, true: np.ndarray) -> float:
    """Chamfer distance in percent of the true extent, at the best distance from the camera.

    `made` (N, 3), `true` (M, 3): camera frame. A photo cannot distinguish a small near object from a large far one, so
    `made` is first scaled about the camera centre, which does not change its picture, by the factor that fits best
    (golden section, within a factor 1.35 of equal mean depth). The extent is the longest side of the true points' box.
    """
    extent = float(np.ptp(true, axis=0).max())
    start = np.log(np.linalg.norm(true.mean(0)) / np.linalg.norm(made.mean(0)))
    few_made, few_true = made[:: -(-len(made) // _COARSE_POINTS)], true[:: -(-len(true) // _COARSE_POINTS)]
    low, high, ratio = start - 0.3, start + 0.3, (np.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = (chamfer(np.exp(x) * few_made, few_true) for x in (a, b))
    while high - low > 0.002:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = chamfer(np.exp(a) * few_made, few_true)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = chamfer(np.exp(b) * few_made, few_true)
    return 100 * chamfer(np.exp((low + high) / 2) * made, true) / extent


def points_of(placed: PlacedObject, count: int) -> np.ndarray:
    """(count, 3) surface samples in the camera frame."""
    return surface_samples(transform(placed.gaussians, placed.pose), count)


def direction_error_deg(first: np.ndarray, second: np.ndarray) -> float:
    """Angle between two vectors (3,)."""
    cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def up_error_deg(placed: PlacedObject, up_camera: np.ndarray) -> float:
    """Angle between the object's z axis and the direction against gravity, (3,) in the camera frame."""
    return direction_error_deg(quat_to_matrix(placed.pose.quat_wxyz)[:, 2], up_camera)


def pairs_in_order(made: Sequence[float], true: Sequence[float]) -> list[bool]:
    """Whether the depth order is correct, for each pair of objects whose true depths differ by at least 5 %."""
    made_depths, true_depths = np.asarray(made, float), np.asarray(true, float)
    first, second = np.triu_indices(len(true_depths), 1)
    apart = np.abs(np.log(true_depths[first] / true_depths[second])) >= np.log(1.05)
    right = (made_depths[first] < made_depths[second]) == (true_depths[first] < true_depths[second])
    return [bool(r) for r in right[apart]]


def relative_depth_errors(made: Sequence[float], true: Sequence[float]) -> np.ndarray:
    """|made / true - 1| of the depths of a scene's objects, after scaling all by the median ratio."""
    ratio = np.asarray(made, float) / np.asarray(true, float)
    errors: np.ndarray = np.abs(ratio / np.exp(np.median(np.log(ratio))) - 1)
    return errors
